//! A slot of a cluster is on its way to another node. A key that a step deletes
//! cannot be made again where it was, so a step that empties a queue must not
//! touch it afterwards.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{
    ClientId, ConversationId, DeploymentMode, Finish, Issue, LockStore, Owner, RedisConfig,
    TicketName, Timing,
};
use redis_fixture::Cluster;
use tokio::time::{sleep, timeout};

use support::cluster::{another_master, nothing_left_in, slot_of};
use support::redis::{aside, at, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A step takes milliseconds; this is for a busy machine.
const SOON: Duration = Duration::from_secs(15);

async fn client_of(cluster: &Cluster) -> LockStore {
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        ..at("localhost")
    };
    let timing = Timing {
        lock_lifetime: 2 * MINUTE,
        ..Timing::default()
    };
    store(&redis, timing).await
}

/// A ticket of a client that ends without a word.
async fn dead_ticket(store: &LockStore, owner: Owner, wait_timeout: Duration) {
    let issue = Issue {
        owner: Some(owner),
        lifetime: MINUTE,
        wait_timeout,
        claim_window: SECOND,
        queue: true,
        repeated: false,
        least_token: None,
        asked: Instant::now(),
    };
    let id = ConversationId::new("a").unwrap();
    store.backend().issue(&id, &issue).resolve().await.unwrap();
}

fn owner(client: u64, sequence: u64) -> Owner {
    Owner {
        client: ClientId::from_u64(client),
        sequence,
    }
}

/// The holder is the last one alive: behind it is a ticket that has timed out.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_empties_the_queue_is_done() {
    let cluster = aside(Cluster::start);
    let (one, other) = (client_of(&cluster).await, client_of(&cluster).await);
    let slot = slot_of(&cluster, &one, "a").await;
    let held = one.lock("a").await.unwrap();
    dead_ticket(&other, owner(7, 1), SECOND / 10).await;
    sleep(SECOND).await;
    let migration = aside(|| cluster.begin_migration(slot, another_master(&cluster, slot)));
    held.release().await.unwrap();
    // It is free, at the other node.
    let guard = timeout(SOON, other.lock("a").into_future()).await.unwrap();
    guard.unwrap().release().await.unwrap();
    aside(|| {
        migration.move_keys();
        migration.finish();
    });
    nothing_left_in(&cluster).await;
}

/// All tickets are those of a client that was called and did not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_issued_in_place_of_those_of_a_dead_client() {
    let cluster = aside(Cluster::start);
    let store = client_of(&cluster).await;
    let slot = slot_of(&cluster, &store, "a").await;
    for dead in [owner(7, 1), owner(8, 1), owner(8, 2), owner(8, 3)] {
        dead_ticket(&store, dead, 2 * MINUTE).await;
    }
    let finish = Finish {
        number: None,
        ..Finish::new(TicketName::Owner(owner(7, 1)), SECOND)
    };
    let id = ConversationId::new("a").unwrap();
    let finished = store.backend().finish(&id, &finish).resolve().await;
    assert_eq!(finished.unwrap().next, Some(owner(8, 1)));
    // Longer than its claim window.
    sleep(2 * SECOND).await;
    let migration = aside(|| cluster.begin_migration(slot, another_master(&cluster, slot)));
    let guard = timeout(SOON, store.lock("a").into_future()).await.unwrap();
    guard.unwrap().release().await.unwrap();
    aside(|| {
        migration.move_keys();
        migration.finish();
    });
    nothing_left_in(&cluster).await;
}
