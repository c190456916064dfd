//! A start without Redis: it fails, or begins in memory and moves to Redis by
//! itself.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lock_store::{ConversationId, Fallback, LockErrorKind, LockStore, RedisConfig, Timing};
use redis_fixture::{Proxy, Server};

use support::load::{Load, Rules};
use support::redis::{aside, at, config, holds_soon, keys, nothing_left_at, store};
use support::tickets;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn timing() -> Timing {
    Timing {
        lock_lifetime: MINUTE,
        ..Timing::default()
    }
}

/// A server that cannot be reached yet, and how.
fn unreachable() -> (Server, Proxy) {
    aside(|| {
        let server = Server::start();
        let proxy = Proxy::to(&server.address());
        proxy.refuse(true);
        (server, proxy)
    })
}

fn with_fallback(url: &str) -> RedisConfig {
    RedisConfig {
        fallback: Fallback::InMemory,
        ..at(url)
    }
}

async fn heals(store: &LockStore) {
    holds_soon("it moves to Redis", || !store.is_degraded()).await;
}

fn keys_of(server: &Server) -> Vec<String> {
    let mut keys = aside(|| keys(server));
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fallback_the_start_fails() {
    let (server, proxy) = unreachable();
    let begun = Instant::now();
    let error = LockStore::create(&config(at(&proxy.url()), timing()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&proxy.address()), "{text}");
    assert!(begun.elapsed() < 6 * SECOND, "{:?}", begun.elapsed());
    // Nobody listens there at all.
    aside(|| server.kill());
    let error = LockStore::create(&config(at(&server.url()), timing()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&server.address()), "{text}");
    assert!(text.contains("cannot reach"), "{text}");
}

/// Whoever names a Redis in code wants it, or an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_in_code_falls_back_to_nothing() {
    let (server, proxy) = unreachable();
    let error = LockStore::redis(proxy.url()).await.unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&proxy.address()), "{text}");
    let store = LockStore::redis(server.url()).await.unwrap();
    assert!(!store.is_degraded());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fallback_the_start_fails_in_time_at_a_frozen_server() {
    let server = aside(Server::start);
    aside(|| server.freeze());
    let redis = RedisConfig {
        socket_timeout: SECOND,
        ..at(&server.url())
    };
    let begun = Instant::now();
    let error = LockStore::create(&config(redis, timing()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Unavailable);
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    aside(|| server.thaw());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_in_memory_and_moves_to_redis() {
    let (server, proxy) = unreachable();
    let store = store(&with_fallback(&proxy.url()), timing()).await;
    assert!(store.is_degraded());
    // Locks work.
    let held = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    assert!(store.try_lock("a").await.unwrap().is_none());
    held.release().await.unwrap();
    let highest = place.fencing_token();
    place.wait().await.unwrap().release().await.unwrap();
    assert!(keys_of(&server).is_empty());

    proxy.refuse(false);
    heals(&store).await;
    let guard = store.lock("a").await.unwrap();
    assert!(guard.fencing_token() > highest);
    assert_eq!(keys_of(&server), ["lock-store:tickets:a"]);
    guard.release().await.unwrap();
    assert!(!store.is_degraded());
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_tickets_in_memory_stays_until_they_are_done() {
    let (server, proxy) = unreachable();
    let store = store(&with_fallback(&proxy.url()), timing()).await;
    let held = store.lock("a").await.unwrap();
    let first = store.take_ticket("a").await.unwrap();
    proxy.refuse(false);
    // One ticket in Redis stands for both.
    holds_soon("it is joined to Redis", || {
        server.command(&["LLEN", "lock-store:tickets:a"]).integer() == 1
    })
    .await;
    assert!(store.is_degraded());
    // New tickets go to Redis.
    let other = store.lock("b").await.unwrap();
    let second = store.take_ticket("a").await.unwrap();
    assert_eq!(second.ticket_number(), 1);
    assert_eq!(
        keys_of(&server),
        ["lock-store:tickets:a", "lock-store:tickets:b"]
    );
    assert_eq!(tickets(&store, "a").await, 2);
    let mut ids: Vec<_> = store.conversations().map(Result::unwrap).collect().await;
    ids.sort();
    let ids: Vec<_> = ids.iter().map(ConversationId::as_str).collect();
    assert_eq!(ids, ["a", "b"]);
    held.extend(MINUTE).await.unwrap();
    assert!(!held.is_lost());
    let mut token = held.fencing_token();
    held.release().await.unwrap();
    for place in [first, second] {
        let guard = place.wait().await.unwrap();
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
        guard.release().await.unwrap();
    }
    heals(&store).await;
    let guard = store.lock("a").await.unwrap();
    assert!(guard.fencing_token() > token);
    assert_eq!(
        keys_of(&server),
        ["lock-store:tickets:a", "lock-store:tickets:b"]
    );
    guard.release().await.unwrap();
    other.release().await.unwrap();
    nothing_left_at(&server).await;
    assert_eq!(store.conversations().count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_moves_under_load_and_nobody_notices() {
    let (server, proxy) = unreachable();
    let store = store(&with_fallback(&proxy.url()), timing()).await;
    assert!(store.is_degraded());
    let load = Load::begin(&[&store], &["a", "b", "c"], 3, Rules::strict());
    load.goes_on(20).await;
    proxy.refuse(false);
    heals(&store).await;
    load.goes_on(20).await;
    load.end().await;
    nothing_left_at(&server).await;
    assert_eq!(store.conversations().count().await, 0);
}

/// A lock in memory whose holder never gives it back dies, and its
/// conversation moves all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_lock_in_memory_holds_nothing_up() {
    let (server, proxy) = unreachable();
    let store = store(&with_fallback(&proxy.url()), timing()).await;
    let held = store.lock("a").lifetime(SECOND).await.unwrap();
    proxy.refuse(false);
    heals(&store).await;
    let lost = held.lost().await;
    assert!(lost.is_lost());
    std::mem::forget(held);
    // The first may find it in memory, and is served there.
    store.lock("a").await.unwrap().release().await.unwrap();
    let guard = store.lock("a").await.unwrap();
    assert_eq!(keys_of(&server), ["lock-store:tickets:a"]);
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}

/// It was in Redis: now it is an outage, and nothing goes to memory again.
#[tokio::test(flavor = "multi_thread")]
async fn it_never_moves_back() {
    let (server, proxy) = unreachable();
    let redis = RedisConfig {
        socket_timeout: MINUTE,
        ..with_fallback(&proxy.url())
    };
    let store = store(&redis, timing()).await;
    proxy.refuse(false);
    heals(&store).await;
    proxy.refuse(true);
    proxy.cut_all();
    let begun = Instant::now();
    let error = store.lock("a").wait_timeout(SECOND).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    // By its own limit, not by that of the connection.
    assert!(begun.elapsed() < 11 * SECOND, "{:?}", begun.elapsed());
    assert!(!store.is_degraded());
    proxy.refuse(false);
    store.lock("a").await.unwrap().release().await.unwrap();
    nothing_left_at(&server).await;
}

/// What a human has to mend is no reason to go on without Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_no_reason_to_fall_back() {
    let server = aside(|| Server::builder().password("right").start());
    let redis = with_fallback(&server.url());
    let error = LockStore::create(&config(redis, timing()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Config);
    assert!(error.to_string().contains("password"), "{error}");
}
