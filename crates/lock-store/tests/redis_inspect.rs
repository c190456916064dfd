//! What people on call look at: surveys, one lock closely, and taking a ticket
//! away.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lock_store::{
    Backend as _, ConversationId, Issue, LockStore, LockSummary, RedisConfig, RedisLockStore,
    TicketState, Timing,
};
use redis_fixture::{Cluster, Server};

use support::redis::{PATIENCE, aside, at, own_prefix, store};

async fn surveyed(redis: &RedisLockStore) -> BTreeMap<String, LockSummary> {
    let seen = redis.survey().map(Result::unwrap);
    seen.map(|lock| (lock.conversation_id.to_string(), lock))
        .collect()
        .await
}

fn id(text: &str) -> ConversationId {
    ConversationId::new(text).unwrap()
}

/// Somebody who looks, and a store whose locks there are.
async fn looked_at(config: &RedisConfig) -> (Arc<RedisLockStore>, LockStore) {
    let redis = Arc::new(RedisLockStore::connect(config).await.unwrap());
    (redis, store(config, Timing::default()).await)
}

async fn a_survey_shows_heads_and_lengths(config: &RedisConfig) {
    let (redis, store) = looked_at(config).await;
    assert!(surveyed(&redis).await.is_empty());
    let mut held = Vec::new();
    for i in 0..1500 {
        let request = store.lock(format!("c{i}")).lifetime(20 * PATIENCE);
        held.push(request.await.unwrap());
    }
    let _next = store.take_ticket("c7").await.unwrap();
    let _last = store.take_ticket("c7").await.unwrap();
    let seen = surveyed(&redis).await;
    assert_eq!(seen.len(), 1500);
    for guard in &held {
        let lock = &seen[guard.conversation_id().as_str()];
        assert_eq!(lock.serving.fencing_token, guard.fencing_token());
        assert!(lock.lease_left() > 10 * PATIENCE && !lock.is_dead());
        assert_eq!(lock.waited(), Some(Duration::ZERO));
        assert!(lock.age() < 10 * PATIENCE);
    }
    assert_eq!(seen["c7"].waiting, 2);
    assert_eq!(seen["c7"].next.as_ref().map(|next| next.number), Some(1));
    assert!(seen["c7"].oldest_wait() < seen["c7"].age());
    assert_eq!((seen["c8"].waiting, &seen["c8"].next), (0, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_server() {
    let server = Server::start();
    a_survey_shows_heads_and_lengths(&at(&server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cluster() {
    let cluster = aside(Cluster::start);
    let config = RedisConfig {
        deployment_mode: lock_store::DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        db: 0,
        ..at("localhost")
    };
    a_survey_shows_heads_and_lengths(&config).await;
    a_ticket_is_taken_away(&config).await;
}

async fn a_ticket_is_taken_away(config: &RedisConfig) {
    let (redis, store) = looked_at(config).await;
    let holder = store.lock("a").await.unwrap();
    let waiter = store.take_ticket("a").await.unwrap();
    // In a cluster a client listens for a conversation a little after its
    // first ticket.
    let seen = loop {
        let seen = redis.inspect(&id("a")).await.unwrap().unwrap();
        if seen.listening.values().all(|listening| *listening) {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let tickets: Vec<_> = seen.lock.tickets().cloned().collect();
    assert_eq!(tickets.len(), 2);
    assert_eq!(tickets[0].state, TicketState::Claimed);
    assert_eq!(seen.is_alive(&tickets[0]), Some(true));
    assert!(seen.time_to_live.unwrap() > Duration::from_secs(30));
    assert!(seen.age(&tickets[1]) < PATIENCE);

    assert!(
        redis
            .take_away(&id("a"), &tickets[0], Timing::default().claim_window)
            .await
            .unwrap()
    );
    // Its owner is told, and the next has its turn.
    let lost = tokio::time::timeout(PATIENCE, holder.lost()).await.unwrap();
    assert!(lost.is_lost());
    let next = waiter.wait().await.unwrap();
    assert_eq!(next.ticket_number(), 1);
    // It was that ticket, and no other one.
    assert!(
        !redis
            .take_away(&id("a"), &tickets[0], Timing::default().claim_window)
            .await
            .unwrap()
    );
    assert!(!next.is_lost());
    next.release().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(redis.inspect(&id("a")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_taken_away_from_whoever_holds_it() {
    let server = Server::start();
    a_ticket_is_taken_away(&at(&server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_gone_is_seen_to_be_gone() {
    let server = Server::start();
    let (redis, _store) = looked_at(&at(&server.url())).await;
    // A ticket of a client that is nowhere.
    let issue = Issue {
        owner: Some("00000000000000ab.7".parse().unwrap()),
        lifetime: PATIENCE,
        wait_timeout: PATIENCE,
        claim_window: PATIENCE,
        queue: true,
        repeated: false,
        least_token: None,
        asked: Instant::now(),
    };
    redis.issue(&id("a"), &issue).resolve().await.unwrap();
    let seen = redis.inspect(&id("a")).await.unwrap().unwrap();
    let head = seen.lock.tickets().next().unwrap();
    assert_eq!(seen.is_alive(head), Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_lock_does_not_hide_the_others() {
    let server = Server::start();
    let config = RedisConfig {
        key_prefix: Some(own_prefix()),
        ..at(&server.url())
    };
    let (redis, store) = looked_at(&config).await;
    let _guard = store.lock("good").await.unwrap();
    let prefix = config.key_prefix.unwrap();
    let (text, list) = (
        format!("{prefix}:tickets:text"),
        format!("{prefix}:tickets:list"),
    );
    let mut connection = server.connect().unwrap();
    connection.command(&["SET", &text, "x"]).unwrap().ok();
    connection
        .command(&["RPUSH", &list, "x"])
        .unwrap()
        .integer();
    let seen: Vec<_> = redis.survey().collect().await;
    let (good, bad): (Vec<_>, Vec<_>) = seen.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    let mut told: Vec<_> = bad
        .into_iter()
        .map(|e| e.unwrap_err().to_string())
        .collect();
    told.sort();
    assert!(
        told[0].contains(&list) && told[1].contains(&text),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_round_trip_is_measured_and_an_outage_is_told() {
    let server = Server::start();
    let config = RedisConfig {
        socket_timeout: Duration::from_secs(3),
        ..at(&server.url())
    };
    let redis = RedisLockStore::connect(&config).await.unwrap();
    assert!(redis.ping().await.unwrap() < PATIENCE);
    assert!(redis.is_connected());
    aside(|| server.kill());
    assert!(redis.ping().await.unwrap_err().is_unavailable());
    let seen: Vec<_> = redis.survey().collect().await;
    assert!(seen.len() == 1 && seen[0].as_ref().unwrap_err().is_unavailable());
}
