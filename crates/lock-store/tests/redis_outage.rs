//! Redis dies, freezes, forgets, refuses, and comes back; nobody hangs, no
//! human helps, and nothing is left.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{LockErrorKind, LockStore, RedisConfig, Timing};
use redis_fixture::Server;
use secrecy::SecretString;
use tokio::time::sleep;

use support::firewall::Firewall;
use support::load::{Load, Rules};
use support::redis::{aside, at, holds_soon, holds_within, keys, nothing_left_at};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// No outage of these tests is as long, so that nobody is taken for dead.
const CLAIM_WINDOW: Duration = Duration::from_secs(40);

const CONVERSATIONS: [&str; 3] = ["a", "b", "c"];

fn timing() -> Timing {
    Timing {
        lock_lifetime: MINUTE,
        claim_window: CLAIM_WINDOW,
        ..Timing::default()
    }
}

/// Asserts that this long, and what a busy machine takes, has not passed yet.
#[track_caller]
fn no_later_than(limit: Duration, since: Instant) {
    let took = since.elapsed();
    assert!(took < limit + 10 * SECOND, "after {took:?}");
}

async fn client_of(url: &str, socket_timeout: Duration) -> LockStore {
    let redis = RedisConfig {
        socket_timeout,
        ..at(url)
    };
    support::redis::store(&redis, timing()).await
}

/// Two clients of one server.
async fn clients(server: &Server, socket_timeout: Duration) -> (LockStore, LockStore) {
    let url = server.url();
    (
        client_of(&url, socket_timeout).await,
        client_of(&url, socket_timeout).await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_loses_all_data_under_load() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, 5 * SECOND).await;
    let rules = Rules {
        may_forget: true,
        ..Rules::outage(4 * SECOND)
    };
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 2, rules);
    load.goes_on(20).await;
    for _ in 0..3 {
        aside(|| server.kill());
        sleep(SECOND / 2).await;
        aside(|| server.restart_empty());
        load.goes_on_within(10 * SECOND, 20).await;
    }
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_keeps_the_data_under_load() {
    // Written before it is answered, and never later for the sake of the disk.
    let server = aside(|| {
        let builder = Server::builder().config("appendonly", "yes");
        builder.config("appendfsync", "no").start()
    });
    let (one, other) = clients(&server, 20 * SECOND).await;
    // What was written is there again: nobody notices but by the time it took.
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 2, Rules::strict());
    load.goes_on(20).await;
    for _ in 0..3 {
        aside(|| server.kill());
        sleep(SECOND / 2).await;
        aside(|| server.restart());
        load.goes_on(20).await;
    }
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_under_load() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, SECOND).await;
    let load = Load::begin(
        &[&one, &other],
        &CONVERSATIONS,
        2,
        Rules::outage(5 * SECOND / 2),
    );
    load.goes_on(20).await;
    aside(|| server.freeze());
    // Callers are told in time: before it goes on.
    load.fails(2).await;
    aside(|| server.thaw());
    load.goes_on_within(10 * SECOND, 20).await;
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_without_commands_is_over_at_once() {
    let server = aside(Server::start);
    let store = client_of(&server.url(), 5 * SECOND).await;
    store.lock("a").await.unwrap().release().await.unwrap();
    aside(|| server.kill());
    sleep(12 * SECOND).await;
    aside(|| server.restart_empty());
    let begun = Instant::now();
    let guard = store.lock("a").wait_timeout(20 * SECOND).await.unwrap();
    // A second between two attempts to connect, and room for a busy machine.
    assert!(begun.elapsed() < 6 * SECOND, "{:?}", begun.elapsed());
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_in_time_that_a_server_is_down() {
    let server = aside(Server::start);
    let store = client_of(&server.url(), 5 * SECOND).await;
    let patient = client_of(&server.url(), MINUTE).await;
    let held = store.lock("held").await.unwrap();
    aside(|| server.kill());
    // By a limit of their own.
    for wait in [SECOND / 10, SECOND] {
        let begun = Instant::now();
        let error = patient.lock("a").wait_timeout(wait).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        no_later_than(wait, begun);
    }
    // By that of their connection.
    let begun = Instant::now();
    let error = store.try_lock("a").await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    no_later_than(5 * SECOND, begun);
    let begun = Instant::now();
    let error = held.release().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    // By two attempts.
    no_later_than(11 * SECOND, begun);
    aside(|| server.restart_empty());
    let guard = store.lock("a").await.unwrap();
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_told_in_time_that_a_server_is_down() {
    let server = aside(|| Server::builder().config("appendonly", "yes").start());
    let store = client_of(&server.url(), MINUTE).await;
    let held = store.lock("a").await.unwrap();
    let wait = 2 * SECOND;
    let begun = Instant::now();
    let place = store.take_ticket("a").wait_timeout(wait).await.unwrap();
    aside(|| server.freeze());
    let error = place.wait().await.unwrap_err();
    assert!(error.is_timed_out() || error.is_unavailable(), "{error}");
    no_later_than(wait, begun);
    aside(|| server.thaw());
    // Its ticket was given back, and the one that holds is none the worse.
    holds_soon("its ticket leaves", || {
        server.command(&["LLEN", "lock-store:tickets:a"]).integer() == 1
    })
    .await;
    held.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_for_a_while() {
    let server = aside(|| Server::builder().password("right").start());
    let redis = RedisConfig {
        password: Some(SecretString::from("right")),
        ..at(&server.url())
    };
    let one = support::redis::store(&redis, timing()).await;
    let other = support::redis::store(&redis, timing()).await;
    // It was let in, and stays so.
    let mut admin = aside(|| server.connect()).unwrap();
    let mut ask = |command: &[&str]| aside(|| admin.command(command)).unwrap();
    let load = Load::begin(
        &[&one, &other],
        &CONVERSATIONS,
        2,
        Rules::outage(2 * SECOND),
    );
    load.goes_on(20).await;
    ask(&["CONFIG", "SET", "requirepass", "wrong"]).ok();
    ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    // Callers are told in time: before it is right again.
    load.fails(1).await;
    let error = one.lock("x").wait_timeout(SECOND / 2).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(error.to_string().contains("password"), "{error}");
    ask(&["CONFIG", "SET", "requirepass", "right"]).ok();
    load.goes_on_within(10 * SECOND, 20).await;
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_data_is_learned_by_everybody() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, 5 * SECOND).await;
    let lease = 3 * SECOND;
    let asked = Instant::now();
    let held = one.lock("a").lifetime(lease).await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    let highest = place.fencing_token();
    let waiting = tokio::spawn(async move { place.wait().await.map(drop) });
    aside(|| server.command(&["FLUSHALL"]).ok());
    // A newcomer goes on at once.
    let newcomer = one.lock("a").await.unwrap();
    assert_eq!(newcomer.ticket_number(), 0);
    assert!(newcomer.fencing_token() > highest);
    let lost = held.release().await.unwrap_err();
    assert!(lost.is_lost(), "{lost}");
    let gone = waiting.await.unwrap().unwrap_err();
    assert!(gone.is_gone(), "{gone}");
    // Not only when its own time would be over.
    no_later_than(lease, asked);
    newcomer.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_flushed_under_load() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, 5 * SECOND).await;
    // Waiters learn when the lease of the head that they knew would be over.
    let rules = Rules {
        lifetime: SECOND,
        may_forget: true,
        ..Rules::outage(8 * SECOND)
    };
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 3, rules);
    for _ in 0..5 {
        load.goes_on_within(10 * SECOND, 20).await;
        aside(|| server.command(&["FLUSHALL"]).ok());
    }
    load.goes_on_within(10 * SECOND, 20).await;
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_learns_of_a_restart_without_data_at_once() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, 5 * SECOND).await;
    let held = one.lock("a").await.unwrap();
    let place = other.take_ticket("a").wait_timeout(MINUTE).await.unwrap();
    let highest = place.fencing_token();
    let begun = Instant::now();
    aside(|| server.restart_empty());
    let gone = place.wait().await.unwrap_err();
    assert!(gone.is_gone(), "{gone}");
    // Not only when the lease of a minute would be over.
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    let newcomer = other.lock("a").await.unwrap();
    assert!(newcomer.fencing_token() > highest);
    let lost = held.release().await.unwrap_err();
    assert!(lost.is_lost(), "{lost}");
    newcomer.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_learns_of_a_restart_without_data() {
    let server = aside(Server::start);
    let store = client_of(&server.url(), 5 * SECOND).await;
    let held = store.lock("a").keep_alive(true).await.unwrap();
    let begun = Instant::now();
    aside(|| server.restart_empty());
    let lost = held.lost().await;
    assert!(lost.is_lost(), "{lost}");
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    let newcomer = store.lock("a").await.unwrap();
    assert!(newcomer.fencing_token() > held.fencing_token());
    assert!(held.release().await.unwrap_err().is_lost());
    newcomer.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_scripts_are_not_noticed() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, 5 * SECOND).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 2, Rules::strict());
    for _ in 0..20 {
        load.goes_on(3).await;
        aside(|| server.command(&["SCRIPT", "FLUSH"]).ok());
    }
    load.goes_on(3).await;
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_dropped_while_the_server_is_frozen_is_given_back() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, SECOND).await;
    let guard = one.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    aside(|| server.freeze());
    drop(guard);
    // Longer than one attempt.
    sleep(3 * SECOND).await;
    aside(|| server.thaw());
    let begun = Instant::now();
    let next = place.wait().await.unwrap();
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    next.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_dropped_while_the_server_is_down_is_given_back() {
    let server = aside(|| Server::builder().config("appendonly", "yes").start());
    let store = client_of(&server.url(), SECOND).await;
    let guard = store.lock("a").await.unwrap();
    aside(|| server.kill());
    drop(guard);
    sleep(3 * SECOND).await;
    aside(|| server.restart());
    holds_within(10 * SECOND, "its ticket is given back", || {
        keys(&server).is_empty()
    })
    .await;
    let closing = store.close();
    tokio::time::timeout(5 * SECOND, closing)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_is_made_good_later() {
    let server = aside(|| Server::builder().config("appendonly", "yes").start());
    let store = client_of(&server.url(), SECOND).await;
    let guard = store.lock("a").await.unwrap();
    aside(|| server.kill());
    let error = guard.release().await.unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Unavailable);
    aside(|| server.restart());
    holds_within(10 * SECOND, "its ticket is given back", || {
        keys(&server).is_empty()
    })
    .await;
}

/// Nothing says that such a connection is dead but that nobody answers; and
/// nobody waits as long as a whole time-out.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_replaced_though_nobody_waits_long() {
    let server = aside(Server::start);
    let firewall = Firewall::before(&server);
    let store = client_of(&firewall.url(), 2 * SECOND).await;
    store.lock("a").await.unwrap().release().await.unwrap();
    firewall.forget_all();
    let begun = Instant::now();
    loop {
        let outcome = store.lock("a").wait_timeout(SECOND).await;
        match outcome {
            Ok(guard) => break guard.release().await.unwrap(),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        assert!(begun.elapsed() < MINUTE, "it is not replaced");
    }
    holds_within(20 * SECOND, "nothing is left", || keys(&server).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_replaced_within_a_timeout() {
    let server = aside(Server::start);
    let firewall = Firewall::before(&server);
    let store = client_of(&firewall.url(), 2 * SECOND).await;
    let held = store.lock("a").await.unwrap();
    firewall.forget_all();
    let begun = Instant::now();
    let guard = store.lock("b").wait_timeout(MINUTE).await.unwrap();
    no_later_than(2 * SECOND, begun);
    guard.release().await.unwrap();
    held.release().await.unwrap();
    nothing_left_at(&server).await;
}
