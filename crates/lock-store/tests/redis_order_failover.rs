//! Tickets of a conversation are issued in the order in which they were first
//! polled, also while its queue moves to another server.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lock_store::{DeploymentMode, LockGuard, LockStore, RedisConfig, Timing};
use redis_fixture::{Cluster, Sentinels, Server};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use support::cluster::{another_master, nothing_left_in, slot_of};
use support::order::{CONVERSATION, Tickets, WAIT, assert_rising};
use support::redis::{aside, at, nothing_left_at, store};

const BURST: usize = 20;

/// Between two bursts of a stream.
const PAUSE: Duration = Duration::from_millis(25);

/// A slow machine makes no client look dead.
fn timing() -> Timing {
    Timing {
        lock_lifetime: WAIT,
        claim_window: WAIT,
        ..Timing::default()
    }
}

/// Bursts that go on until they are ended.
struct Stream {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Tickets>,
}

impl Stream {
    fn begin(store: &LockStore) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let (mut tickets, ends) = (Tickets::of(store), is_over.clone());
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                tickets.poll(BURST);
                sleep(PAUSE).await;
            }
            tickets
        });
        Self { is_over, task }
    }

    async fn end(self) -> Tickets {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// A store, and the first ticket of the conversation, which holds the lock.
async fn sentinel_client(sentinels: &Sentinels) -> (LockStore, LockGuard) {
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Sentinel,
        endpoints: sentinels.sentinel_addresses(),
        sentinel_service: sentinels.master_name().into(),
        ..at("localhost")
    };
    let store = store(&redis, timing()).await;
    let held = store.lock(CONVERSATION).await.unwrap();
    aside(|| until_replicated(sentinels.master()));
    (store, held)
}

/// Waits until both replicas have all that was written so far.
fn until_replicated(master: &Server) {
    let mut connection = master.connect().unwrap();
    let mut send = |command: &[&str]| connection.command(command).unwrap();
    // `WAIT` waits for what was written over the same connection.
    send(&["SET", "marker", "1"]).ok();
    send(&["DEL", "marker"]).integer();
    assert_eq!(send(&["WAIT", "2", "60000"]).integer(), 2);
}

/// Redis has lost nothing that was answered, so no number is missing.
#[tokio::test(flavor = "multi_thread")]
async fn bursts_while_the_master_of_sentinels_is_dead() {
    let sentinels = aside(Sentinels::start);
    let (store, held) = sentinel_client(&sentinels).await;
    let old = aside(|| sentinels.kill_master());
    let mut tickets = Tickets::of(&store);
    for _ in 0..10 {
        tickets.poll(BURST);
        sleep(PAUSE).await;
    }
    aside(|| sentinels.wait_for_new_master(old.port()));
    tickets.poll(BURST);
    drop(tickets.places_from(1).await);
    held.release().await.unwrap();
    nothing_left_at(sentinels.master()).await;
}

/// What the old master wrote last may be lost with its numbers. Fencing tokens
/// rise all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_sentinels_change_the_master() {
    let sentinels = aside(Sentinels::start);
    let (store, held) = sentinel_client(&sentinels).await;
    let stream = Stream::begin(&store);
    for _ in 0..2 {
        let old = sentinels.current_master_port();
        let new = aside(|| sentinels.failover().port());
        assert_ne!(new, old);
    }
    let places = stream.end().await.places().await;
    assert_rising(places.iter().map(|place| place.fencing_token().get()));
    drop(places);
    held.release().await.unwrap();
    nothing_left_at(sentinels.master()).await;
}

/// A store, the slot of the conversation, and its first ticket, which holds the
/// lock.
async fn cluster_client(cluster: &Cluster) -> (LockStore, u16, LockGuard) {
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        ..at("localhost")
    };
    let store = store(&redis, timing()).await;
    let slot = slot_of(cluster, &store, CONVERSATION).await;
    let held = store.lock(CONVERSATION).await.unwrap();
    (store, slot, held)
}

/// A burst right before each step of the migration, and one right after it:
/// nodes answer `ASK` and `MOVED`.
#[tokio::test(flavor = "multi_thread")]
async fn bursts_while_a_slot_moves() {
    let cluster = aside(Cluster::start);
    let (store, slot, held) = cluster_client(&cluster).await;
    let mut tickets = Tickets::of(&store);
    // There and back.
    for _ in 0..4 {
        tickets.poll(BURST);
        let migration = aside(|| cluster.begin_migration(slot, another_master(&cluster, slot)));
        tickets.poll(BURST);
        aside(|| migration.move_keys());
        tickets.poll(2 * BURST);
        aside(|| migration.finish());
        tickets.poll(2 * BURST);
    }
    drop(tickets.places_from(1).await);
    held.release().await.unwrap();
    nothing_left_in(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_a_slot_moves() {
    let cluster = aside(Cluster::start);
    let (store, slot, held) = cluster_client(&cluster).await;
    let stream = Stream::begin(&store);
    for _ in 0..12 {
        aside(|| cluster.migrate_slot(slot, another_master(&cluster, slot)));
    }
    drop(stream.end().await.places_from(1).await);
    held.release().await.unwrap();
    nothing_left_in(&cluster).await;
}

/// The old master hands over all that it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_a_replica_of_a_cluster_takes_over() {
    let cluster = aside(Cluster::start);
    let (store, slot, held) = cluster_client(&cluster).await;
    let stream = Stream::begin(&store);
    for _ in 0..2 {
        aside(|| cluster.failover_of_slot(slot));
    }
    drop(stream.end().await.places_from(1).await);
    held.release().await.unwrap();
    nothing_left_in(&cluster).await;
}
