//! A request is held back on its way for longer than a claim window, while new
//! connections work. A second attempt over a new connection is in time.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::{Place, RedisConfig, Timing};
use redis_fixture::{Proxy, Server};
use tokio::time::{sleep, timeout};

use support::order::assert_consecutive;
use support::redis::{PATIENCE, aside, at, holds_soon, nothing_left_at, store};

/// An attempt may take a third of it. The rest is for a slow machine.
const WINDOW: Duration = Duration::from_secs(3);

/// For how long requests are held back.
const HELD: Duration = Duration::from_millis(4_500);

/// A client with ten tickets is called while its requests are held back.
async fn ten_tickets_are_served(socket_timeout: Duration, of_types: &[&str]) {
    let server = aside(Server::start);
    let proxy = Proxy::to(&server.address());
    let timing = Timing {
        lock_lifetime: 10 * WINDOW,
        wait_timeout: Some(2 * PATIENCE),
        claim_window: WINDOW,
        ..Timing::default()
    };
    let through = RedisConfig {
        socket_timeout,
        ..at(&proxy.url())
    };
    let other = store(&at(&server.url()), timing.clone()).await;
    let store = store(&through, timing).await;
    holds_soon("both stores subscribe", || {
        server.client_addresses("pubsub").len() == 2
    })
    .await;
    let held = other.lock("a").await.unwrap();
    let mut places: Vec<Place> = Vec::new();
    for _ in 0..10 {
        places.push(store.take_ticket("a").await.unwrap());
    }
    for of_type in of_types {
        proxy.hold(&aside(|| server.client_addresses(of_type)));
    }
    assert_eq!(proxy.held(), of_types.len());
    held.release().await.unwrap();
    let serving = tokio::spawn(async move {
        let mut numbers = Vec::new();
        for place in places {
            let guard = place.wait().await.unwrap();
            numbers.push(guard.ticket_number());
            guard.release().await.unwrap();
        }
        numbers
    });
    // What was held back arrives late, and does no harm.
    sleep(HELD).await;
    proxy.let_go();
    let numbers = timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(numbers.len(), 10);
    assert_consecutive(1, &numbers);
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tickets_are_served_with_a_long_socket_timeout() {
    ten_tickets_are_served(Duration::from_secs(10), &["normal"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tickets_are_served_with_a_short_socket_timeout() {
    ten_tickets_are_served(Duration::from_millis(500), &["normal"]).await;
}

/// The subscriber receives what the server sends, but its requests are held
/// back, too.
#[tokio::test(flavor = "multi_thread")]
async fn ten_tickets_are_served_though_all_connections_are_held_back() {
    ten_tickets_are_served(Duration::from_secs(10), &["normal", "pubsub"]).await;
}
