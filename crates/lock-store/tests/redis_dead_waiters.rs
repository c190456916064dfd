//! Waiters are killed, and the client that released the lock has gone: the next
//! living waiter is served after one claim window for each dead client.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::Timing;
use redis_fixture::Server;

use support::processes::{Process, SOON, nothing_is_left, obey, until_queued};
use support::redis::{at, store};

const WINDOW: Duration = Duration::from_secs(3);

/// Much longer than what a test allows.
const LEASE: Duration = Duration::from_secs(60);

/// A queue of waiters, of which all but the last are dead.
struct Line {
    server: Server,
    dead: Vec<Process>,
    last: Process,
}

impl Line {
    /// Lines up behind a lock that is held.
    fn behind_a_holder(server: Server, dead: usize) -> Self {
        let order = format!("lock a {}", LEASE.as_millis());
        let mut waiters: Vec<_> = (0..=dead)
            .map(|_| Process::start(&server, WINDOW))
            .collect();
        for (waiter, queued) in waiters.iter_mut().zip(2..) {
            waiter.say(&order);
            until_queued(&server, "a", queued);
        }
        let last = waiters.pop().unwrap();
        for waiter in &mut waiters {
            waiter.dies();
        }
        Self {
            server,
            dead: waiters,
            last,
        }
    }

    /// Asserts that the last waiter is served in time.
    fn serves_the_last(mut self, released: Instant) {
        self.last.has_locked();
        let (took, limit) = (
            released.elapsed(),
            WINDOW * u32::try_from(self.dead.len()).unwrap(),
        );
        assert!(took < limit + SOON, "after {took:?}");
        self.last.releases("a");
        nothing_is_left(&self.server);
    }
}

/// How the client that releases the lock goes.
#[derive(Clone, Copy)]
enum Goes {
    Killed,
    Ends,
}

fn a_process_releases_and_goes(dead: usize, goes: Goes) {
    let server = Server::start();
    let mut holder = Process::start(&server, WINDOW);
    holder.locks("a", LEASE);
    let line = Line::behind_a_holder(server, dead);
    holder.releases("a");
    let released = Instant::now();
    match goes {
        Goes::Killed => holder.dies(),
        Goes::Ends => holder.ends(),
    }
    line.serves_the_last(released);
}

#[test]
fn one_dead_waiter_costs_one_claim_window() {
    a_process_releases_and_goes(1, Goes::Killed);
}

#[test]
fn two_dead_waiters_cost_two_claim_windows() {
    a_process_releases_and_goes(2, Goes::Killed);
}

#[test]
fn a_dead_waiter_costs_one_claim_window_after_an_orderly_end() {
    a_process_releases_and_goes(1, Goes::Ends);
}

/// The store that released the lock was dropped, and its runtime has ended.
#[test]
fn a_dead_waiter_costs_one_claim_window_after_the_end_of_a_store() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (holder, guard) = runtime.block_on(async {
        let timing = Timing {
            lock_lifetime: LEASE,
            claim_window: WINDOW,
            ..Timing::default()
        };
        let holder = store(&at(&server.url()), timing).await;
        let guard = holder.lock("a").await.unwrap();
        (holder, guard)
    });
    let line = Line::behind_a_holder(server, 1);
    runtime.block_on(guard.release()).unwrap();
    let released = Instant::now();
    drop(holder);
    drop(runtime);
    line.serves_the_last(released);
}

/// Not a test, but the other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests"]
async fn child() {
    obey().await;
}
