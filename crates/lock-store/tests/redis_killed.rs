//! Several processes on one conversation, and what happens when one of them is
//! killed or stopped.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use redis_fixture::Server;

use support::processes::{Process, SOON, nothing_is_left, obey, until_queued};

/// Long enough for those that live.
const WINDOW: Duration = Duration::from_secs(4);

/// Of a lease that is to run out, but not before somebody waits for that.
const LIFETIME: Duration = Duration::from_secs(6);

/// Several on one server.
fn start<const N: usize>(server: &Server) -> [Process; N] {
    [(); N].map(|()| Process::start(server, WINDOW))
}

/// One that holds a lock, and two that wait for it.
fn three_in_line(server: &Server) -> [Process; 3] {
    let [mut holder, mut waiter, mut next] = start(server);
    holder.locks("a", Duration::from_secs(60));
    waiter.say("lock a 60000");
    until_queued(server, "a", 2);
    next.say("lock a 60000");
    until_queued(server, "a", 3);
    [holder, waiter, next]
}

/// Asserts that this long, and what a busy machine takes, has not passed yet.
#[track_caller]
fn no_later_than(limit: Duration, since: Instant) {
    let took = since.elapsed();
    assert!(took <= limit + SOON, "after {took:?}");
}

mod killed {
    use super::*;

    /// Its lease must run out, as nobody can know.
    #[test]
    fn a_holder() {
        let server = Server::start();
        let [mut holder, mut next] = start(&server);
        let begun = Instant::now();
        let token = holder.locks("a", LIFETIME);
        let leased = Instant::now();
        next.say("lock a 60000");
        until_queued(&server, "a", 2);
        holder.dies();
        let later = next.has_locked();
        assert!(later > token);
        assert!(begun.elapsed() >= LIFETIME, "after {:?}", begun.elapsed());
        no_later_than(LIFETIME, leased);
        next.releases("a");
        nothing_is_left(&server);
    }

    /// It is called and does not answer: that costs the claim window.
    #[test]
    fn a_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = three_in_line(&server);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        no_later_than(WINDOW, released);
        next.releases("a");
        nothing_is_left(&server);
    }

    /// Nobody waits for it, and it is nobody's loss.
    #[test]
    fn the_last_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter] = start(&server);
        holder.locks("a", Duration::from_secs(60));
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        holder.locks("a", Duration::from_secs(60));
        no_later_than(WINDOW, released);
        holder.releases("a");
        nothing_is_left(&server);
    }

    /// However many tickets it had, they cost one claim window.
    #[test]
    fn one_with_a_hundred_tickets() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = start(&server);
        holder.locks("a", Duration::from_secs(60));
        waiter.say("queue a 50");
        waiter.hears("queued");
        next.say("queue a 1");
        next.hears("queued");
        waiter.say("queue a 50");
        waiter.hears("queued");
        next.say("queue a 1");
        next.hears("queued");
        until_queued(&server, "a", 103);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        // Both of its tickets, one after the other.
        next.say("served");
        next.hears("served");
        no_later_than(WINDOW, released);
        nothing_is_left(&server);
    }

    /// Each dead client costs one claim window, and no more.
    #[test]
    fn two_after_each_other() {
        let server = Server::start();
        let [mut holder, mut one, mut other, mut next] = start(&server);
        holder.locks("a", Duration::from_secs(60));
        for _ in 0..10 {
            for process in [&mut one, &mut other] {
                process.say("queue a 1");
                process.hears("queued");
            }
        }
        next.say("lock a 60000");
        until_queued(&server, "a", 22);
        one.dies();
        other.dies();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        no_later_than(2 * WINDOW, released);
        next.releases("a");
        nothing_is_left(&server);
    }
}

mod stopped {
    use super::*;

    /// A holder that stood still past its lease finds its lock lost before it
    /// acts; and would it act all the same, it would be refused.
    fn past_its_lease(keep_alive: bool) {
        let server = Server::start();
        let [mut holder, mut next] = start(&server);
        let order = if keep_alive { "keep" } else { "lock" };
        holder.say(&format!("{order} a {}", LIFETIME.as_millis()));
        let token = holder.has_locked();
        holder.say("write a");
        holder.hears("lost false written 1");
        holder.freeze();
        next.say("lock a 60000");
        let later = next.has_locked();
        assert!(later > token);
        next.say("write a");
        next.hears("lost false written 1");
        // There before it wakes, so that it does nothing else first.
        holder.say("write a");
        holder.signal("-CONT");
        holder.hears("lost true written 0");
        holder.say("release a");
        holder.hears("not released Lost");
        // The later one is not disturbed.
        next.say("write a");
        next.hears("lost false written 1");
        next.releases("a");
        let written = server.command(&["GET", "written:a"]).text();
        assert_eq!(written, later.to_string());
        nothing_is_left(&server);
    }

    #[test]
    fn a_holder() {
        past_its_lease(false);
    }

    #[test]
    fn a_holder_that_keeps_its_lease_alive() {
        past_its_lease(true);
    }

    /// It is taken for dead, learns it, and queues again at the end.
    #[test]
    fn a_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = three_in_line(&server);
        waiter.freeze();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        no_later_than(WINDOW, released);
        waiter.signal("-CONT");
        waiter.hears("not locked Gone");
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        next.releases("a");
        waiter.has_locked();
        waiter.releases("a");
        nothing_is_left(&server);
    }
}

/// Not a test, but the other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests"]
async fn child() {
    obey().await;
}
