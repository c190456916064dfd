//! Wake-ups that are lost, refused, or come for nobody.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use lock_store::{LockGuard, LockStore, Place, RedisConfig, Timing};
use redis_fixture::{Cut, Proxy, Server};
use secrecy::SecretString;
use tokio::task::JoinSet;

use support::firewall::Firewall;
use support::lines::Lines;
use support::load::{Load, Rules};
use support::redis::command_of::{FINISH, LIFETIME};
use support::redis::{aside, at, holds_soon, nothing_left_at, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A hand-off takes a second or two at most; how long it may take on a busy
/// machine. What a test rules out takes longer.
const SOON: Duration = Duration::from_secs(15);

/// Nobody is taken for dead who is only slow.
fn patient() -> Timing {
    Timing {
        claim_window: 2 * SOON,
        ..Timing::default()
    }
}

/// Two clients that listen.
async fn clients(server: &Server, timing: Timing) -> (LockStore, LockStore) {
    let one = store(&at(&server.url()), timing.clone()).await;
    let other = store(&at(&server.url()), timing).await;
    holds_soon("both listen", || listeners(server) == 2).await;
    (one, other)
}

/// One releases what the other waits for; in between comes what is to disturb
/// it.
async fn hand_off(one: &LockStore, other: &LockStore, disturb: impl FnOnce()) {
    let held = one.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    aside(disturb);
    is_handed_on(held, place).await;
}

/// From the release of the first to that of the next.
async fn is_handed_on(held: LockGuard, place: Place) {
    let begun = Instant::now();
    held.release().await.unwrap();
    let guard = place.wait().await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    guard.release().await.unwrap();
}

fn listeners(server: &Server) -> i64 {
    let channels = server.command(&["PUBSUB", "CHANNELS"]).list();
    i64::try_from(channels.len()).unwrap()
}

fn cut_listeners_off(server: &Server) {
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
}

fn commands(server: &Server) -> u64 {
    let count = server.info("total_commands_processed").unwrap();
    count.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_off_is_a_push() {
    let server = aside(Server::start);
    // Nobody looks before a minute is over.
    let never = Timing {
        wait_time: MINUTE,
        claim_window: MINUTE,
        ..Timing::default()
    };
    let (one, other) = clients(&server, never).await;
    for _ in 0..20 {
        hand_off(&one, &other, || ()).await;
    }
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_cut_off_in_the_middle_of_hand_offs() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, patient()).await;
    let conversations = ["a", "b", "c"];
    let load = Load::begin(&[&one, &other], &conversations, 3, Rules::strict());
    for _ in 0..40 {
        // Each of these may lose calls, and costs a second at most.
        load.goes_on_within(10 * SECOND, 5).await;
        aside(|| cut_listeners_off(&server));
    }
    load.goes_on_within(10 * SECOND, 20).await;
    load.end().await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_costs_time_only() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, patient()).await;
    for _ in 0..20 {
        // Nobody hears the call.
        hand_off(&one, &other, || cut_listeners_off(&server)).await;
    }
    nothing_left_at(&server).await;
}

/// The listening connection is dead, and nothing says so. That is found out when
/// half of the claim window is over; on a busy machine the rest may be too short
/// once, but not each time.
async fn a_silent_listener(timing: Timing) {
    for _ in 0..5 {
        if is_found_out(timing.clone()).await {
            return;
        }
    }
    panic!("it is not found out in time");
}

async fn is_found_out(timing: Timing) -> bool {
    let server = aside(Server::start);
    let firewall = aside(|| Firewall::before(&server));
    let one = store(&at(&server.url()), timing.clone()).await;
    let other = store(&at(&firewall.url()), timing).await;
    holds_soon("both listen", || listeners(&server) == 2).await;
    let held = one.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    firewall.forget_those_that_sent("SUBSCRIBE");
    held.release().await.unwrap();
    let in_time = match place.wait().await {
        Ok(guard) => guard.release().await.is_ok(),
        Err(error) => {
            assert!(error.is_gone(), "{error}");
            false
        }
    };
    nothing_left_at(&server).await;
    in_time
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_listener_is_found_out_before_its_client_is_taken_for_dead() {
    a_silent_listener(Timing::default()).await;
}

/// The same for a client with a shorter claim window.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_listener_is_found_out_within_a_short_claim_window() {
    a_silent_listener(Timing {
        claim_window: 3 * SECOND,
        ..Timing::default()
    })
    .await;
}

/// A holder that was served at once does not know that somebody queued behind
/// it, as it is deaf. The other does not wait for the end of a lease that is
/// given back.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_queues_behind_a_deaf_holder_is_served() {
    let server = aside(Server::start);
    let firewall = aside(|| Firewall::before(&server));
    let one = store(&at(&firewall.url()), patient()).await;
    let other = store(&at(&server.url()), patient()).await;
    holds_soon("both listen", || listeners(&server) == 2).await;
    let held = one.lock("a").await.unwrap();
    firewall.forget_those_that_sent("SUBSCRIBE");
    let place = other.take_ticket("a").await.unwrap();
    is_handed_on(held, place).await;
    nothing_left_at(&server).await;
}

/// The same while it does not know yet that it hears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_queues_as_listeners_are_cut_off_is_served() {
    let server = aside(Server::start);
    let (one, other) = clients(&server, patient()).await;
    for _ in 0..100 {
        let held = one.lock("a").await.unwrap();
        aside(|| cut_listeners_off(&server));
        let place = other.take_ticket("a").await.unwrap();
        is_handed_on(held, place).await;
    }
    nothing_left_at(&server).await;
}

async fn idle(server: &Server, store: &LockStore, conversations: usize, each: usize) {
    let mut held = Vec::new();
    let mut places = JoinSet::<Place>::new();
    for number in 0..conversations {
        let id = format!("c{number}");
        held.push(store.lock(&id).lifetime(5 * MINUTE).await.unwrap());
        for _ in 0..each {
            let (store, id) = (store.clone(), id.clone());
            places.spawn(async move {
                let request = store.take_ticket(id).wait_timeout(5 * MINUTE);
                request.await.unwrap()
            });
        }
    }
    let places = places.join_all().await;
    assert_eq!(places.len(), 1000);
    let seconds = 5;
    let before = aside(|| commands(server));
    tokio::time::sleep(seconds * SECOND).await;
    let sent = aside(|| commands(server)) - before;
    assert!(sent <= 10 * u64::from(seconds), "{sent} commands");
    drop(places);
    drop(held);
    store.close().await.unwrap();
    nothing_left_at(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_waiters_in_one_line_are_quiet() {
    let server = aside(Server::start);
    let (one, _other) = clients(&server, Timing::default()).await;
    idle(&server, &one, 1, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_waiters_in_many_lines_are_quiet() {
    let server = aside(Server::start);
    let (one, _other) = clients(&server, Timing::default()).await;
    idle(&server, &one, 500, 2).await;
}

/// A call is late: its ticket was claimed by a look, and is on its way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_during_the_release_is_no_loss() {
    let server = aside(Server::start);
    let proxy = aside(|| Proxy::to(&server.address()));
    let other = store(&at(&server.url()), Timing::default()).await;
    let store = store(&at(&proxy.url()), Timing::default()).await;
    holds_soon("both listen", || listeners(&server) == 2).await;
    for sequence in 1..=10 {
        let client = store.client_id();
        let held = other.lock("a").await.unwrap();
        let place = store.take_ticket("a").lifetime(LIFETIME).await.unwrap();
        held.release().await.unwrap();
        let guard = place.wait().await.unwrap();
        let channel = format!("lock-store:wake:{client}");
        let call = format!("turn {client}.{sequence} lock-store:tickets:a");
        proxy.refuse(true);
        let cuts = proxy.cuts();
        proxy.cut_when(Cut::command(FINISH));
        let releasing = tokio::spawn(guard.release());
        holds_soon("the connection is cut", || proxy.cuts() > cuts).await;
        // What the call causes may come before or after the release.
        tokio::time::sleep(SECOND * (sequence * 37 % 250) / 1000).await;
        let heard = aside(|| server.command(&["PUBLISH", &channel, &call]).integer());
        assert_eq!(heard, 1);
        tokio::time::sleep(SECOND * (sequence * 61 % 250) / 1000).await;
        proxy.refuse(false);
        releasing.await.unwrap().unwrap();
    }
    nothing_left_at(&server).await;
}

fn refusals(lines: &Lines) -> usize {
    let text = lines.text();
    let warnings = text.lines().filter(|line| line.contains("WARN lock_store"));
    warnings.filter(|line| line.contains("subscri")).count()
}

/// In a process of its own, as events are for all tests of a process.
#[test]
fn a_refused_subscription_is_said_once_and_costs_time_only() {
    const ALONE: &str = "LOCK_STORE_TEST_IS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "a_refused_subscription_is_said_once_and_costs_time_only";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name]).env(ALONE, "1").output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(without_subscription(&lines));
}

async fn without_subscription(lines: &Lines) {
    let server = aside(|| {
        Server::builder()
            .acl_user("deaf", "word", "~* &* +@all -subscribe")
            .start()
    });
    let redis = RedisConfig {
        username: Some("deaf".into()),
        password: Some(SecretString::from("word")),
        ..at(&server.url())
    };
    let one = store(&redis, patient()).await;
    let other = store(&at(&server.url()), patient()).await;
    // Served by looking.
    for _ in 0..3 {
        hand_off(&other, &one, || ()).await;
    }
    let load = Load::begin(&[&one, &other], &["a", "b"], 2, Rules::strict());
    load.goes_on(5).await;
    load.end().await;
    // It is asked again after ten seconds, and nothing is said again; nor is
    // it when the connection breaks.
    aside(|| server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]));
    one.lock("a").await.unwrap().release().await.unwrap();
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(refusals(lines), 1, "{}", lines.text());
    // Until it may.
    aside(|| {
        let allow = ["ACL", "SETUSER", "deaf", "+subscribe"];
        server.command(&allow).ok();
    });
    holds_soon("both listen", || listeners(&server) == 2).await;
    nothing_left_at(&server).await;
}
