//! The network keeps a request, and delivers it when its client has long sent
//! other requests over another connection. What arrives late changes nothing.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{Layout, LockStore, RedisConfig, Timestamp, Timing};
use redis_fixture::Server;
use tokio::time::{sleep, timeout};

use support::firewall::Firewall;
use support::redis::{aside, at, holds_soon, nothing_left_at, store};
use support::tickets;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A step takes milliseconds; this is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

struct Setup {
    layout: Layout,
    server: Server,
    firewall: Firewall,
    /// Behind the firewall.
    store: LockStore,
    /// Beside it.
    other: LockStore,
}

/// Long enough that no live client is taken for dead on a busy machine.
const CLAIM_WINDOW: Duration = Duration::from_secs(20);

/// Longer than a client waits for an answer to a request for a ticket, which is
/// no longer than a third of the claim window.
const LONG_HELD: Duration = Duration::from_secs(8);

async fn setup(layout: Layout) -> Setup {
    let server = aside(Server::start);
    let firewall = aside(|| Firewall::before(&server));
    let timing = Timing {
        lock_lifetime: 2 * MINUTE,
        claim_window: CLAIM_WINDOW,
        ..Timing::default()
    };
    let beside = RedisConfig {
        layout,
        ..at(&server.url())
    };
    let behind = RedisConfig {
        layout,
        // The network keeps a request for a shorter time than that.
        socket_timeout: MINUTE,
        ..at(&firewall.url())
    };
    Setup {
        layout,
        store: store(&behind, timing.clone()).await,
        other: store(&beside, timing).await,
        server,
        firewall,
    }
}

impl Setup {
    fn key(&self) -> &'static str {
        match self.layout {
            Layout::Rasa => "lock:a",
            _ => "lock-store:tickets:a",
        }
    }

    /// From now on the firewall keeps the next request for the conversation,
    /// whatever it is, and closes its connection.
    fn hold_next_request(&self) {
        self.firewall.hold(&[&format!("\r\n{}\r\n", self.key())]);
    }

    /// Requests a ticket that the firewall keeps, and gives up.
    async fn give_up_a_request(&self) {
        let before = tickets(&self.other, "a").await;
        self.hold_next_request();
        let request = tokio::spawn({
            let store = self.store.clone();
            async move { store.lock("a").wait_timeout(2 * MINUTE).await }
        });
        holds_soon("the request is held", || self.firewall.holds()).await;
        request.abort();
        let _ = request.await;
        // It may have been sent again meanwhile.
        self.has_tickets(before).await;
    }

    async fn has_tickets(&self, count: usize) {
        let begun = Instant::now();
        loop {
            let found = tickets(&self.other, "a").await;
            if found == count {
                return;
            }
            let layout = self.layout;
            assert!(
                begun.elapsed() < SOON,
                "{layout:?}: the queue has {found} tickets instead of {count}"
            );
            sleep(SECOND / 50).await;
        }
    }
}

/// An extension of a few seconds is held up, and one of minutes is not.
async fn a_late_extension_in(layout: Layout) {
    let short = 5 * SECOND;
    let setup = setup(layout).await;
    let guard = setup.store.lock("a").await.unwrap();
    setup.hold_next_request();
    // Sent again over a new connection.
    guard.extend(short).await.unwrap();
    assert!(setup.firewall.holds());
    guard.extend(5 * MINUTE).await.unwrap();
    sleep(3 * SECOND / 2).await;
    setup.firewall.let_go().await;

    let left = aside(|| setup.server.command(&["PTTL", setup.key()]).integer());
    assert!(left > 120_000, "{layout:?}: the key lives for {left} ms");
    let lock = setup.other.get_lock("a").await.unwrap().unwrap();
    let ticket = lock.tickets().next().unwrap();
    let left = ticket.expires - Timestamp::now();
    assert!(left > 2 * MINUTE, "{layout:?}: {left:?} of the lease left");
    // Nor does another client get it when the short lease would be over.
    let wait = short + 2 * SECOND;
    let error = setup.other.lock("a").wait_timeout(wait).await.unwrap_err();
    assert!(error.is_timed_out(), "{layout:?}: {error}");
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    nothing_left_at(&setup.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_extension_does_not_shorten_the_lease() {
    a_late_extension_in(Layout::Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_extension_does_not_shorten_the_lease_in_rasas_layout() {
    a_late_extension_in(Layout::Rasa).await;
}

/// A request for a ticket arrives behind a younger one, and its caller has gone.
/// No ticket may come of it, however short: it could be called in vain.
async fn a_late_request_for_a_ticket_in(layout: Layout) {
    let setup = setup(layout).await;
    let held = setup.other.lock("a").await.unwrap();
    setup.give_up_a_request().await;
    let place = setup.store.take_ticket("a").await.unwrap();
    setup.has_tickets(2).await;
    sleep(LONG_HELD).await;
    setup.firewall.let_go().await;
    let found = tickets(&setup.other, "a").await;
    assert_eq!(found, 2, "{layout:?}: a ticket was issued late");
    // The client is not taken for dead.
    held.release().await.unwrap();
    let guard = timeout(SOON, place.wait()).await.unwrap().unwrap();
    guard.release().await.unwrap();
    // Nor does another have to wait for a ticket that came late.
    let guard = setup.other.lock("a").wait_timeout(SOON).await.unwrap();
    guard.release().await.unwrap();
    nothing_left_at(&setup.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_for_a_ticket_leaves_none() {
    a_late_request_for_a_ticket_in(Layout::Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_for_a_ticket_leaves_none_in_rasas_layout() {
    a_late_request_for_a_ticket_in(Layout::Rasa).await;
}
