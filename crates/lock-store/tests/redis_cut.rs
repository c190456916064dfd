//! Connections that are cut at every point of a step: before the server gets
//! the command, and before the client gets the reply. Nobody notices, and
//! nothing is left.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{Layout, LockStore, RedisConfig, Timing};
use redis_fixture::{Cut, Proxy, Reply, Server};

use support::firewall::Firewall;
use support::load::{Load, Rules};
use support::redis::command_of::{CLAIM, FINISH, ISSUE, LEAVE, LIFETIME};
use support::redis::{PATIENCE, aside, at, holds_soon, holds_within, keys, nothing_left_at, store};

/// Far below what a connection takes to time out, and above what a busy
/// machine takes for a step and a new connection.
const SOON: Duration = Duration::from_secs(4);

struct Setup {
    layout: Layout,
    server: Server,
    proxy: Proxy,
    /// Through the proxy.
    store: LockStore,
    /// Beside it.
    other: LockStore,
}

fn timing() -> Timing {
    Timing {
        lock_lifetime: LIFETIME,
        wait_timeout: Some(Duration::from_secs(20)),
        ..Timing::default()
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Native, Layout::Rasa];

/// One for each layout.
async fn setups() -> [Setup; 2] {
    let [native, rasa] = LAYOUTS.map(|layout| Box::pin(setup(layout)));
    [native.await, rasa.await]
}

async fn setup(layout: Layout) -> Setup {
    let server = aside(Server::start);
    let proxy = aside(|| Proxy::to(&server.address()));
    let through = RedisConfig {
        socket_timeout: Duration::from_secs(10),
        ..in_layout(layout, &proxy.url())
    };
    let store = store(&through, timing()).await;
    let beside = in_layout(layout, &server.url());
    let other = support::redis::store(&beside, timing()).await;
    // The listening connection, too.
    holds_soon("all connections are open", || {
        clients(&server, "pubsub").len() == 2
    })
    .await;
    Setup {
        layout,
        server,
        proxy,
        store,
        other,
    }
}

fn in_layout(layout: Layout, url: &str) -> RedisConfig {
    RedisConfig { layout, ..at(url) }
}

fn clients(server: &Server, kind: &str) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST", "TYPE", kind]).text();
    list.lines().map(str::to_owned).collect()
}

impl Setup {
    fn tickets(&self) -> usize {
        let ask = |command: &[&str]| aside(|| self.server.command(command));
        if self.layout == Layout::Native {
            let length = ask(&["LLEN", "lock-store:tickets:a"]).integer();
            return usize::try_from(length).unwrap();
        }
        match ask(&["GET", "lock:a"]) {
            Reply::Nil => 0,
            text => text.text().matches("number").count(),
        }
    }

    async fn ends(self) {
        nothing_left_at(&self.server).await;
        // And it all still works.
        let guard = self.store.lock("a").await.unwrap();
        guard.release().await.unwrap();
        assert_eq!(aside(|| keys(&self.server)), Vec::<String>::new());
    }
}

/// A ticket is given back in one of two ways; what is tried first is cut.
const GIVEN_BACK: [&str; 2] = [FINISH, LEAVE];

/// Cuts while a lock is taken and given back that nobody else wants.
async fn uncontended(cuts: impl IntoIterator<Item = Cut> + Clone) {
    for setup in setups().await {
        for cut in cuts.clone() {
            setup.proxy.cut_when(cut);
        }
        let begun = Instant::now();
        let guard = setup.store.lock("a").await.unwrap();
        assert_eq!(guard.ticket_number(), 0);
        assert_eq!(setup.tickets(), 1);
        let token = guard.fencing_token();
        guard.release().await.unwrap();
        assert!(setup.proxy.cuts() >= 1);
        setup.proxy.cut_no_more();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(setup.tickets(), 0);
        let next = setup.store.lock("a").await.unwrap();
        assert!(next.fencing_token() > token);
        next.release().await.unwrap();
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_never_arrives_is_sent_again() {
    uncontended([Cut::command(ISSUE)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_without_a_reply_finds_its_ticket() {
    uncontended([Cut::reply(ISSUE)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_that_never_arrives_is_sent_again() {
    uncontended(GIVEN_BACK.map(Cut::command)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_without_a_reply_is_no_loss() {
    uncontended(GIVEN_BACK.map(Cut::reply)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_is_cut_off_again_and_again() {
    for setup in setups().await {
        for cut in [Cut::command(ISSUE), Cut::reply(ISSUE)] {
            for _ in 0..3 {
                setup.proxy.cut_when(cut.clone());
            }
        }
        let guard = setup.store.lock("a").await.unwrap();
        assert_eq!((guard.ticket_number(), setup.tickets()), (0, 1));
        assert_eq!(setup.proxy.cuts(), 6);
        guard.release().await.unwrap();
        setup.ends().await;
    }
}

/// Cuts once while a lock is waited for, claimed and given back.
async fn contended(cut: Cut) {
    for setup in setups().await {
        let held = setup.other.lock("a").await.unwrap();
        setup.proxy.cut_when(cut.clone());
        let place = setup.store.take_ticket("a").await.unwrap();
        assert_eq!((place.ticket_number(), setup.tickets()), (1, 2));
        let token = place.fencing_token();
        assert!(token > held.fencing_token());
        let begun = Instant::now();
        held.release().await.unwrap();
        let guard = place.wait().await.unwrap();
        assert_eq!((guard.fencing_token(), setup.tickets()), (token, 1));
        guard.release().await.unwrap();
        assert_eq!(setup.proxy.cuts(), 1);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_issue_that_never_arrives_is_sent_again() {
    contended(Cut::command(ISSUE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_issue_without_a_reply_finds_its_ticket() {
    contended(Cut::reply(ISSUE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_never_arrives_is_sent_again() {
    contended(Cut::command(CLAIM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_a_reply_is_sent_again() {
    contended(Cut::reply(CLAIM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiters_finish_that_never_arrives_is_sent_again() {
    contended(Cut::command(FINISH)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiters_finish_without_a_reply_is_no_loss() {
    contended(Cut::reply(FINISH)).await;
}

/// Cuts once while the lease of a held lock is extended.
async fn extended(cut: Cut) {
    for setup in setups().await {
        let guard = setup.store.lock("a").await.unwrap();
        let before = guard.deadline();
        setup.proxy.cut_when(cut.clone());
        guard.extend(LIFETIME).await.unwrap();
        assert_eq!(setup.proxy.cuts(), 1);
        assert!(guard.deadline() > before);
        assert!(!guard.is_lost());
        guard.release().await.unwrap();
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_never_arrives_is_sent_again() {
    extended(Cut::command(CLAIM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_without_a_reply_is_sent_again() {
    extended(Cut::reply(CLAIM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_served_after_a_finish_without_a_reply() {
    for setup in setups().await {
        let held = setup.store.lock("a").await.unwrap();
        let place = setup.other.take_ticket("a").await.unwrap();
        for text in GIVEN_BACK {
            setup.proxy.cut_when(Cut::reply(text));
        }
        held.release().await.unwrap();
        let guard = place.wait().await.unwrap();
        assert_eq!(setup.tickets(), 1);
        guard.release().await.unwrap();
        setup.ends().await;
    }
}

/// Drops a request as its connection is cut, while no other can be opened or
/// after it was.
async fn cancelled(cut: Cut, comes_back_before: bool, is_held: bool) {
    for setup in setups().await {
        let mut held = None;
        if is_held {
            held = Some(setup.other.lock("a").await.unwrap());
        }
        setup.proxy.refuse(!comes_back_before);
        setup.proxy.cut_when(cut.clone());
        let asking = tokio::spawn({
            let store = setup.store.clone();
            async move { store.lock("a").await }
        });
        holds_soon("the connection is cut", || setup.proxy.cuts() == 1).await;
        asking.abort();
        let _ = asking.await;
        setup.proxy.refuse(false);
        if let Some(held) = held {
            holds_within(SOON, "its ticket leaves", || setup.tickets() == 1).await;
            held.release().await.unwrap();
        }
        holds_within(SOON, "its ticket leaves", || setup.tickets() == 0).await;
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_issue_that_never_arrived_leaves_nothing() {
    cancelled(Cut::command(ISSUE), false, false).await;
    cancelled(Cut::command(ISSUE), true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_issue_without_a_reply_leaves_nothing() {
    cancelled(Cut::reply(ISSUE), false, false).await;
    cancelled(Cut::reply(ISSUE), true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_waiting_issue_leaves_nothing() {
    cancelled(Cut::command(ISSUE), false, true).await;
    cancelled(Cut::reply(ISSUE), false, true).await;
    cancelled(Cut::reply(ISSUE), true, true).await;
}

/// Drops a waiter or a holder as the connection is cut over which its turn is
/// claimed.
async fn cancelled_at_its_turn(cut: Cut, comes_back_before: bool) {
    for setup in setups().await {
        let held = setup.other.lock("a").await.unwrap();
        let place = setup.store.take_ticket("a").await.unwrap();
        let waiting = tokio::spawn(place.wait());
        setup.proxy.refuse(!comes_back_before);
        setup.proxy.cut_when(cut.clone());
        held.release().await.unwrap();
        holds_soon("the connection is cut", || setup.proxy.cuts() == 1).await;
        waiting.abort();
        let _ = waiting.await;
        setup.proxy.refuse(false);
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_claim_leaves_nothing() {
    for comes_back_before in [false, true] {
        cancelled_at_its_turn(Cut::command(CLAIM), comes_back_before).await;
        cancelled_at_its_turn(Cut::reply(CLAIM), comes_back_before).await;
    }
}

/// Drops a release as its connection is cut.
async fn cancelled_release(cut: fn(&'static str) -> Cut, comes_back_before: bool) {
    for setup in setups().await {
        let guard = setup.store.lock("a").await.unwrap();
        setup.proxy.refuse(!comes_back_before);
        for text in GIVEN_BACK {
            setup.proxy.cut_when(cut(text));
        }
        let releasing = tokio::spawn(guard.release());
        holds_soon("the connection is cut", || setup.proxy.cuts() >= 1).await;
        releasing.abort();
        let _ = releasing.await;
        setup.proxy.refuse(false);
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_release_releases() {
    for comes_back_before in [false, true] {
        cancelled_release(Cut::command, comes_back_before).await;
        cancelled_release(Cut::reply, comes_back_before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_guard_releases_over_a_cut() {
    let either: [fn(&'static str) -> Cut; 2] = [Cut::command, Cut::reply];
    for cut in either {
        for setup in setups().await {
            let guard = setup.store.lock("a").await.unwrap();
            for text in GIVEN_BACK {
                setup.proxy.cut_when(cut(text));
            }
            drop(guard);
            holds_soon("the connection is cut", || setup.proxy.cuts() >= 1).await;
            setup.ends().await;
        }
    }
}

/// Connections break all the time, at any point, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_at_any_point_under_load_are_not_noticed() {
    for setup in setups().await {
        let stores = [&setup.store, &setup.other];
        let rules = Rules {
            lifetime: LIFETIME,
            ..Rules::strict()
        };
        let load = Load::begin(&stores, &["a", "b", "c"], 2, rules);
        for round in 0..10 {
            for text in [ISSUE, CLAIM, FINISH] {
                for cut in [Cut::command(text), Cut::reply(text)] {
                    let before = setup.proxy.cuts();
                    setup.proxy.cut_when(cut.after(round));
                    holds_soon("cut", || setup.proxy.cuts() > before).await;
                }
            }
            aside(|| setup.proxy.cut_all());
        }
        load.goes_on(5).await;
        load.end().await;
        setup.ends().await;
    }
}

/// What is stalled on its way comes after its caller has gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_arrives_late_is_not_done() {
    for setup in setups().await {
        setup.proxy.stall(true);
        let mut wait = Duration::from_millis(300);
        let begun = Instant::now();
        let error = setup.store.lock("a").wait_timeout(wait).await.unwrap_err();
        assert!(error.is_unavailable() || error.is_timed_out(), "{error}");
        // Not only when the connection has timed out.
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        let held = setup.other.lock("a").await.unwrap();
        setup.proxy.stall(false);
        // Comes after it, on the same connection; it may take longer than that
        // until there is an answer.
        let mut error = setup.store.lock("a").wait_timeout(wait).await.unwrap_err();
        while error.is_unavailable() && wait < PATIENCE {
            wait *= 4;
            error = setup.store.lock("a").wait_timeout(wait).await.unwrap_err();
        }
        assert!(error.is_timed_out(), "{error}");
        holds_soon("its ticket leaves", || setup.tickets() == 1).await;
        held.release().await.unwrap();
        setup.ends().await;
    }
}

/// A server, and a client on the way to it.
async fn behind_a_firewall(layout: Layout) -> (Server, Firewall, LockStore) {
    let server = aside(Server::start);
    let firewall = aside(|| Firewall::before(&server));
    let store = store(&in_layout(layout, &firewall.url()), timing()).await;
    (server, firewall, store)
}

/// Sent again over another connection, done, and given back; then the first
/// one arrives, too.
async fn arrives_after_the_release(texts: &[&str]) {
    for layout in LAYOUTS {
        arrives_after_the_release_in(layout, texts).await;
    }
}

async fn arrives_after_the_release_in(layout: Layout, texts: &[&str]) {
    let (server, firewall, store) = behind_a_firewall(layout).await;
    let beside = in_layout(layout, &server.url());
    let other = support::redis::store(&beside, timing()).await;
    let held = other.lock("a").await.unwrap();
    if texts == [CLAIM] {
        firewall.hold(texts);
    } else {
        held.release().await.unwrap();
        firewall.hold(texts);
        store.lock("a").await.unwrap().release().await.unwrap();
        assert!(firewall.holds());
        return is_harmless(&server, &firewall, &store).await;
    }
    let place = store.take_ticket("a").await.unwrap();
    held.release().await.unwrap();
    place.wait().await.unwrap().release().await.unwrap();
    is_harmless(&server, &firewall, &store).await;
}

async fn is_harmless(server: &Server, firewall: &Firewall, store: &LockStore) {
    firewall.let_go().await;
    let begun = Instant::now();
    let guard = store.lock("a").await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    guard.release().await.unwrap();
    holds_within(SOON, "nothing is left", || keys(server).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_arrives_twice_leaves_nothing() {
    arrives_after_the_release(&[ISSUE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_arrives_twice_leaves_nothing() {
    arrives_after_the_release(&[CLAIM]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_that_arrives_twice_harms_nobody() {
    arrives_after_the_release(&GIVEN_BACK).await;
}

/// Nor may it cost the other tickets of its client.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_arrives_again_while_its_lock_is_held_costs_nothing() {
    for layout in LAYOUTS {
        let (server, firewall, store) = behind_a_firewall(layout).await;
        firewall.hold(&[ISSUE]);
        let guard = store.lock("a").await.unwrap();
        firewall.let_go().await;
        let place = store.take_ticket("a").await.unwrap();
        let begun = Instant::now();
        guard.release().await.unwrap();
        let guard = place.wait().await.unwrap();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        guard.release().await.unwrap();
        holds_within(SOON, "nothing is left", || keys(&server).is_empty()).await;
    }
}
