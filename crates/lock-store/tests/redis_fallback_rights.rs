//! A store that began in memory finds a Redis that does not let it do what it
//! needs. It stays in memory, and a log says which right is missing.
//!
//! The only test of its process: see `events.rs`.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use lock_store::{Fallback, RedisConfig, Timing};
use redis_fixture::{Proxy, Server};

use support::lines::Lines;
use support::redis::{aside, at, holds_soon, nothing_left_at, store};

/// The rights that the documentation names, without `PUBLISH`.
fn too_few_rights() -> String {
    let rights = redis_fixture::documented_rights("bot");
    assert!(rights.contains(" +publish"));
    rights.replace(" +publish", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_reported_while_the_store_is_degraded() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let (server, proxy) = aside(|| {
        let builder = Server::builder().acl_user("bot", "swordfish", &too_few_rights());
        let server = builder.start();
        let proxy = Proxy::to(&server.address());
        proxy.refuse(true);
        (server, proxy)
    });
    let redis = RedisConfig {
        fallback: Fallback::InMemory,
        username: Some("bot".into()),
        password: Some("swordfish".into()),
        ..at(&proxy.url())
    };
    let store = store(&redis, Timing::default()).await;
    assert!(store.is_degraded());
    // It could not be known yet.
    assert!(!names_the_right(&lines), "{}", lines.text());
    proxy.refuse(false);
    holds_soon("the missing right is reported", || names_the_right(&lines)).await;
    assert!(store.is_degraded());
    store.lock("a").await.unwrap().release().await.unwrap();
    let text = lines.text();
    assert!(!text.contains("swordfish"), "{text}");

    // A person gives it the right.
    aside(|| {
        let command = ["ACL", "SETUSER", "bot", "+publish"];
        server.command(&command).ok();
    });
    holds_soon("it moves to Redis", || !store.is_degraded()).await;
    store.lock("a").await.unwrap().release().await.unwrap();
    nothing_left_at(&server).await;
}

fn names_the_right(lines: &Lines) -> bool {
    let text = lines.text().to_lowercase();
    text.lines().any(|line| line.contains("publish"))
}
