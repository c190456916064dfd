//! Conversations of a cluster, and where they are.

use lock_store::LockStore;
use redis_fixture::{Cluster, Server};

use super::redis::{aside, keys, nothing_left_at};

/// The slot of a conversation, whose name in Redis only a lock shows.
pub async fn slot_of(cluster: &Cluster, store: &LockStore, id: &str) -> u16 {
    let guard = store.lock(id).await.unwrap();
    let slot = aside(|| {
        let end = format!(":{id}");
        let mut keys = cluster.nodes().iter().flat_map(keys);
        let key = keys.find(|key| key.ends_with(&end)).unwrap();
        cluster.slot_of(&key)
    });
    guard.release().await.unwrap();
    slot
}

/// Waits until no node has a key. Replicas are behind, but not for long.
pub async fn nothing_left_in(cluster: &Cluster) {
    for node in cluster.nodes().iter().filter(|node| node.is_running()) {
        nothing_left_at(node).await;
    }
}

/// Conversations of which each node has two.
pub async fn two_at_each(cluster: &Cluster, store: &LockStore) -> Vec<(String, u16)> {
    let mut found: Vec<(String, u16, u32)> = Vec::new();
    for number in 0.. {
        let id = format!("c{number}");
        let slot = slot_of(cluster, store, &id).await;
        let node = aside(|| cluster.node_of_slot(slot).pid());
        if found.iter().filter(|(_, _, there)| *there == node).count() < 2 {
            found.push((id, slot, node));
        }
        if found.len() == 6 {
            break;
        }
    }
    let found = found.into_iter();
    found.map(|(id, slot, _)| (id, slot)).collect()
}

pub fn names(conversations: &[(String, u16)]) -> Vec<&str> {
    conversations.iter().map(|(id, _)| &**id).collect()
}

/// Where a slot can go.
pub fn another_master(cluster: &Cluster, slot: u16) -> &Server {
    let from = cluster.node_of_slot(slot).pid();
    let masters = [0, 6000, 12_000].map(|slot| cluster.node_of_slot(slot));
    masters.into_iter().find(|it| it.pid() != from).unwrap()
}
