//! What several test files need.

#![allow(dead_code, unreachable_pub)] // each file uses a part of it

pub mod bench;
pub mod cluster;
pub mod firewall;
pub mod lines;
pub mod load;
pub mod order;
pub mod probe;
pub mod processes;
pub mod rasa;
pub mod redis;
pub mod refuser;
pub mod scenario;
pub mod slow;
pub mod slow_story;
pub mod start;
pub mod table;
pub mod walk;

use std::sync::Arc;

use lock_store::{InMemoryLockStore, LockStore, Timing};

/// Two stores, two clients, on one memory.
pub fn two_stores(timing: &Timing) -> (LockStore, LockStore) {
    let memory = Arc::new(InMemoryLockStore::new());
    let store = || LockStore::with_timing(memory.clone(), timing.clone()).unwrap();
    (store(), store())
}

/// How many tickets a conversation has.
pub async fn tickets(store: &LockStore, id: &str) -> usize {
    let lock = store.get_lock(id).await.unwrap();
    lock.map_or(0, |lock| lock.tickets().len())
}
