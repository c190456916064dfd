//! Another server takes over, by plan or because the master died: with
//! Sentinel and in a cluster, under load. And slots of a cluster that move.
//!
//! Redis replicates after it has answered. What a master did last may be lost
//! with it, so that two may hold a lock, and tickets may go; or come back,
//! and live until their lease ends, which is short here. Tokens rise all the
//! same.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{DeploymentMode, LockStore, RedisConfig, Timing};
use redis_fixture::{Cluster, Sentinels, Server};

use support::cluster::{another_master, names, nothing_left_in, slot_of, two_at_each};
use support::load::{Load, Rules};
use support::redis::{aside, at, holds_soon, keys, nothing_left_at};

const SECOND: Duration = Duration::from_secs(1);

/// How long everything may stand still.
const SOME_SECONDS: Duration = Duration::from_secs(20);

const CONVERSATIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A planned change of places loses nothing, but takes a moment; for some
/// seconds a master may take no writes.
fn planned() -> Rules {
    Rules::strict()
}

/// Nobody is taken for dead meanwhile.
fn patient() -> Timing {
    Timing {
        claim_window: 30 * SECOND,
        ..Timing::default()
    }
}

/// Nobody looks before a third of a minute is over.
fn called() -> Timing {
    Timing {
        wait_time: 60 * SECOND,
        claim_window: 60 * SECOND,
        ..Timing::default()
    }
}

/// A hand-off takes a second or two at most; how long it may take on a busy
/// machine. What a test rules out takes longer.
const SOON: Duration = Duration::from_secs(15);

fn lossy() -> Rules {
    Rules {
        lifetime: 3 * SECOND,
        may_forget: true,
        ..Rules::outage(8 * SECOND)
    }
}

async fn two_clients(redis: &RedisConfig, timing: Timing) -> (LockStore, LockStore) {
    (
        support::redis::store(redis, timing.clone()).await,
        support::redis::store(redis, timing).await,
    )
}

async fn sentinel_clients(sentinels: &Sentinels) -> (LockStore, LockStore) {
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Sentinel,
        endpoints: sentinels.sentinel_addresses(),
        sentinel_service: sentinels.master_name().into(),
        ..at("localhost")
    };
    two_clients(&redis, Timing::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_change_the_master_under_load() {
    let sentinels = aside(Sentinels::start);
    let (one, other) = sentinel_clients(&sentinels).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, lossy());
    load.goes_on(20).await;
    for _ in 0..2 {
        let old = sentinels.current_master_port();
        let new = aside(|| sentinels.failover().port());
        assert_ne!(new, old);
        load.goes_on_within(SOME_SECONDS, 20).await;
    }
    load.end().await;
    nothing_left_at(sentinels.master()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_of_sentinels_dies_under_load() {
    let sentinels = aside(Sentinels::start);
    let (one, other) = sentinel_clients(&sentinels).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, lossy());
    load.goes_on(20).await;
    let old = aside(|| sentinels.kill_master());
    aside(|| sentinels.wait_for_new_master(old.port()));
    load.goes_on_within(SOME_SECONDS, 20).await;
    // And it comes back as a replica, which takes no writes.
    aside(|| {
        old.restart_empty();
        sentinels.wait_until_settled();
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    load.end().await;
    nothing_left_at(sentinels.master()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_of_sentinels_freezes_and_comes_back_as_a_replica() {
    let sentinels = aside(Sentinels::start);
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Sentinel,
        endpoints: sentinels.sentinel_addresses(),
        socket_timeout: SECOND,
        ..at("localhost")
    };
    let (one, other) = two_clients(&redis, Timing::default()).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, lossy());
    load.goes_on(20).await;
    let old = aside(|| sentinels.freeze_master());
    aside(|| sentinels.wait_for_new_master(old.port()));
    load.goes_on_within(SOME_SECONDS, 20).await;
    aside(|| {
        old.thaw();
        sentinels.wait_until_settled();
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    load.end().await;
    nothing_left_at(sentinels.master()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_down_is_passed_over() {
    let sentinels = aside(Sentinels::start);
    aside(|| sentinels.sentinels()[0].kill());
    let (one, other) = sentinel_clients(&sentinels).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, lossy());
    load.goes_on(20).await;
    load.end().await;
    nothing_left_at(sentinels.master()).await;
}

async fn cluster_clients(cluster: &Cluster, timing: Timing) -> (LockStore, LockStore) {
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        // Not all: the others are found.
        endpoints: cluster.addresses()[..2].to_vec(),
        ..at("localhost")
    };
    two_clients(&redis, timing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_cluster_takes_over_under_load() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, patient()).await;
    let conversations = two_at_each(&cluster, &one).await;
    let load = Load::begin(&[&one, &other], &names(&conversations), 2, planned());
    load.goes_on(20).await;
    // And back.
    for _ in 0..2 {
        aside(|| cluster.failover_of_slot(conversations[0].1));
        load.goes_on_within(SOME_SECONDS, 20).await;
    }
    load.end().await;
    nothing_left_in(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_cluster_dies_under_load() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, Timing::default()).await;
    let conversations = two_at_each(&cluster, &one).await;
    let load = Load::begin(&[&one, &other], &names(&conversations), 1, lossy());
    load.goes_on(20).await;
    let slot = conversations[0].1;
    let old = aside(|| {
        let old = cluster.kill_master_of_slot(slot);
        assert_ne!(cluster.node_of_slot(slot).port(), old.port());
        cluster.wait_until_settled();
        old
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    aside(|| {
        old.restart_empty();
        cluster.wait_until_settled();
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    load.end().await;
    nothing_left_in(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_moves_under_load() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, patient()).await;
    let conversations = two_at_each(&cluster, &one).await;
    let load = Load::begin(&[&one, &other], &names(&conversations), 2, planned());
    load.goes_on(20).await;
    // There and back.
    for _ in 0..4 {
        let slot = conversations[0].1;
        let migration = aside(|| cluster.begin_migration(slot, another_master(&cluster, slot)));
        load.goes_on_within(SOME_SECONDS, 5).await;
        aside(|| migration.move_keys());
        load.goes_on_within(SOME_SECONDS, 5).await;
        aside(|| migration.finish());
        load.goes_on_within(SOME_SECONDS, 20).await;
    }
    load.end().await;
    nothing_left_in(&cluster).await;
}

/// Waiters that wait through the whole of it: their tickets move with them,
/// and their calls come from the new node.
#[tokio::test(flavor = "multi_thread")]
async fn waiters_move_with_their_slot() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, called()).await;
    let slot = slot_of(&cluster, &one, "a").await;
    let held = one.lock("a").await.unwrap();
    let first = one.take_ticket("a").await.unwrap();
    let second = other.take_ticket("a").await.unwrap();
    let third = one.take_ticket("a").await.unwrap();
    aside(|| cluster.migrate_slot(slot, another_master(&cluster, slot)));
    let begun = Instant::now();
    let mut token = held.fencing_token();
    held.release().await.unwrap();
    for place in [first, second, third] {
        let guard = place.wait().await.unwrap();
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
        guard.release().await.unwrap();
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    nothing_left_in(&cluster).await;
}

/// Between the move of a key and that of its slot, calls come from a node at
/// which nobody can listen. A waiter is served all the same, and is not taken
/// for dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_served_while_its_slot_is_halfway() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, patient()).await;
    let slot = slot_of(&cluster, &one, "a").await;
    let held = one.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    let migration = aside(|| {
        let migration = cluster.begin_migration(slot, another_master(&cluster, slot));
        migration.move_keys();
        migration
    });
    held.release().await.unwrap();
    let begun = Instant::now();
    let guard = place.wait().await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    guard.release().await.unwrap();
    aside(|| migration.finish());
    nothing_left_in(&cluster).await;
}

/// While a slot is on its way, a key that is deleted cannot be made again
/// where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_client_on_a_moving_slot_harms_nobody_else() {
    let cluster = aside(Cluster::start);
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        ..at("localhost")
    };
    let timing = Timing {
        lock_lifetime: 60 * SECOND,
        claim_window: 3 * SECOND,
        ..Timing::default()
    };
    let one = support::redis::store(&redis, timing.clone()).await;
    let other = support::redis::store(&redis, timing.clone()).await;
    let dead = support::redis::store(&redis, timing).await;
    let slot = slot_of(&cluster, &one, "a").await;
    let held = one.lock("a").await.unwrap();
    // A client that ends without a word.
    let id = lock_store::ConversationId::new("a").unwrap();
    let client = dead.client_id();
    for sequence in 1_000..1_003 {
        let issue = lock_store::Issue {
            owner: Some(lock_store::Owner { client, sequence }),
            lifetime: 60 * SECOND,
            wait_timeout: 60 * SECOND,
            claim_window: 3 * SECOND,
            queue: true,
            repeated: false,
            least_token: None,
            asked: Instant::now(),
        };
        dead.backend().issue(&id, &issue).resolve().await.unwrap();
    }
    drop(dead);
    let place = other.take_ticket("a").await.unwrap();
    let last = one.take_ticket("a").await.unwrap();
    let migration = aside(|| cluster.begin_migration(slot, another_master(&cluster, slot)));
    held.release().await.unwrap();
    let begun = Instant::now();
    let guard = place.wait().await.unwrap();
    // One claim window, and what follows.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    guard.release().await.unwrap();
    last.wait().await.unwrap().release().await.unwrap();
    aside(|| {
        migration.move_keys();
        migration.finish();
    });
    nothing_left_in(&cluster).await;
}

/// Calls go on coming, so that nobody has to look.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_all_the_time_after_a_slot_has_moved() {
    let cluster = aside(Cluster::start);
    let (one, other) = cluster_clients(&cluster, patient()).await;
    let conversations = two_at_each(&cluster, &one).await;
    let (moving, slot) = &conversations[0];
    let to = aside(|| another_master(&cluster, *slot));
    // Somebody waits at both nodes, so that both are listened to.
    let there = aside(|| {
        let at_to = |(_, slot): &&(String, u16)| cluster.node_of_slot(*slot).port() == to.port();
        &conversations.iter().find(at_to).unwrap().0
    });
    let mut waiting = Vec::new();
    let mut held = Vec::new();
    for id in [moving, there] {
        held.push(one.lock(id).await.unwrap());
        waiting.push(other.take_ticket(id).await.unwrap());
    }
    aside(|| cluster.migrate_slot(*slot, to));
    // How many claims all nodes have seen.
    let scripts = || -> u64 {
        let calls = |node: &Server| {
            let stats = node.command(&["INFO", "commandstats"]).text();
            let line = stats.lines().find(|it| it.starts_with("cmdstat_evalsha:"));
            let calls = line.and_then(|it| it.split(['=', ',']).nth(1));
            calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
        };
        cluster.nodes().iter().map(calls).sum()
    };
    holds_soon("nobody looks any more", || {
        let before = scripts();
        std::thread::sleep(3 * SECOND);
        scripts() == before
    })
    .await;
    for (held, place) in held.into_iter().zip(waiting) {
        let begun = Instant::now();
        held.release().await.unwrap();
        place.wait().await.unwrap().release().await.unwrap();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    nothing_left_in(&cluster).await;
}

/// A user who may not subscribe to shard channels waits by looking.
#[tokio::test(flavor = "multi_thread")]
async fn waiters_without_a_subscription_in_a_cluster_are_served() {
    let cluster = aside(Cluster::start);
    aside(|| {
        for node in cluster.nodes() {
            let rules = [
                "ACL",
                "SETUSER",
                "deaf",
                "on",
                ">word",
                "~*",
                "&*",
                "+@all",
                "-ssubscribe",
            ];
            node.command(&rules).ok();
        }
    });
    let redis = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        username: Some("deaf".into()),
        password: Some("word".into()),
        socket_timeout: 10 * SECOND,
        ..at("localhost")
    };
    let (one, other) = two_clients(&redis, patient()).await;
    let held = one.lock("a").await.unwrap();
    let asked = Instant::now();
    let waiting = tokio::spawn(async move {
        let guard = other.lock("a").await?;
        guard.release().await
    });
    holds_soon("it waits", || {
        cluster.nodes()[..3].iter().any(|node| {
            let keys = keys(node);
            let length = |key: &String| node.command(&["LLEN", key]);
            keys.iter().any(|key| length(key).integer() == 2)
        })
    })
    .await;
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    nothing_left_in(&cluster).await;
}
