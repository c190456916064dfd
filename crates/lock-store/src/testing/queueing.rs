//! Who is served when.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use tokio::task::JoinSet;

use super::{SECOND, Storage, soon, tickets, until};
use crate::{LockErrorKind, LockStore};

pub(super) async fn tickets_are_served_in_order(storage: Storage) {
    let stores = [storage.store().await, storage.store().await];
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = JoinSet::new();
    for i in 0..60_u64 {
        let place = stores[usize::from(i % 3 == 0)].take_ticket("a").await;
        let (place, served) = (place.unwrap(), served.clone());
        waiters.spawn(async move {
            let guard = place.wait().await.unwrap();
            served.lock().unwrap().push((i, guard.fencing_token()));
            guard.release().await.unwrap();
        });
    }
    soon(waiters.join_all()).await;
    let served = served.lock().unwrap();
    let order: Vec<u64> = served.iter().map(|(i, _)| *i).collect();
    assert_eq!(order, (0..60).collect::<Vec<u64>>());
    assert!(served.is_sorted_by_key(|(_, token)| *token));
}

pub(super) async fn numbers_start_at_zero(storage: Storage) {
    let store = storage.store().await;
    for _ in 0..2 {
        let mut places = Vec::new();
        for number in 0..3 {
            let place = store.take_ticket("a").await.unwrap();
            assert_eq!(place.ticket_number(), number);
            places.push(place);
        }
        for place in places {
            place.wait().await.unwrap().release().await.unwrap();
        }
        assert_eq!(tickets(&store, "a").await, 0);
    }
}

pub(super) async fn positions_count_down(storage: Storage) {
    let store = storage.store().await;
    let holder = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    let second = store.take_ticket("a").await.unwrap();
    let third = store.take_ticket("a").lifetime(60 * SECOND).await.unwrap();
    assert_eq!(second.position().await.unwrap(), 1);
    assert_eq!(third.position().await.unwrap(), 2);
    drop(second);
    until(async || third.position().await.unwrap() == 1).await;
    holder.release().await.unwrap();
    until(async || third.position().await.unwrap() == 0).await;
    assert_eq!(third.wait().await.unwrap().ticket_number(), 2);
}

pub(super) async fn a_release_wakes_the_next(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let holder = one.lock("a").lifetime(600 * SECOND).await.unwrap();
    let waiter = tokio::spawn(async move { other.lock("a").await });
    until(async || tickets(&one, "a").await == 2).await;
    holder.release().await.unwrap();
    // Long before the holder's lease would have been over.
    let guard = soon(waiter).await.unwrap().unwrap();
    assert_eq!(guard.ticket_number(), 1);
}

pub(super) async fn a_dropped_wait_leaves(storage: Storage) {
    let store = storage.store().await;
    let holder = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.lock("a").await })
        })
        .collect();
    until(async || tickets(&store, "a").await == 4).await;
    for waiter in &waiters {
        waiter.abort();
    }
    until(async || tickets(&store, "a").await == 1).await;
    holder.release().await.unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

pub(super) async fn a_dropped_place_leaves(storage: Storage) {
    let store = storage.store().await;
    let first = store.take_ticket("a").lifetime(60 * SECOND).await.unwrap();
    let second = store.take_ticket("a").lifetime(60 * SECOND).await.unwrap();
    let third = store.take_ticket("a").lifetime(60 * SECOND).await.unwrap();
    drop(first);
    drop(second);
    let guard = soon(third.wait()).await.unwrap();
    assert_eq!(guard.ticket_number(), 2);
    guard.release().await.unwrap();
    soon(store.close()).await.unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

pub(super) async fn many_stores_share_fairly(storage: Storage) {
    let busy = Arc::new(AtomicBool::new(false));
    let highest = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let store = storage.store().await;
        for _ in 0..4 {
            let (store, busy, highest) = (store.clone(), busy.clone(), highest.clone());
            tasks.spawn(async move {
                for _ in 0..10 {
                    let guard = store.lock("a").keep_alive(true).await.unwrap();
                    assert!(!busy.swap(true, Ordering::SeqCst), "two hold it");
                    tokio::task::yield_now().await;
                    let token = guard.fencing_token().get();
                    let before = highest.swap(token, Ordering::SeqCst);
                    assert!(before < token, "{before} is followed by {token}");
                    busy.store(false, Ordering::SeqCst);
                    guard.release().await.unwrap();
                }
            });
        }
    }
    soon(tasks.join_all()).await;
}

pub(super) async fn nothing_is_left_behind(storage: Storage) {
    let store = storage.store().await;
    let mut tasks = JoinSet::new();
    for i in 0..40 {
        let store = store.clone();
        tasks.spawn(async move {
            let id = format!("conversation-{}", i % 4);
            match i % 5 {
                0 => drop(store.lock(&id).await),
                1 => drop(store.take_ticket(&id).await),
                2 => drop(store.lock(&id).wait_timeout(SECOND / 100).await),
                3 => drop(store.try_lock(&id).await),
                _ => store.run(&id, async |_| ()).await.unwrap(),
            }
        });
    }
    soon(tasks.join_all()).await;
    soon(store.close()).await.unwrap();
    let left: Vec<_> = store.conversations().try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?} are left");
}

pub(super) async fn any_characters_are_an_id(storage: Storage) {
    let store = storage.store().await;
    let ids = [
        " ".into(),
        "a:b{c}*?[d]".into(),
        "línea\nnueva\0nul".into(),
        "对话 🧵".into(),
        "x".repeat(1024),
    ];
    let mut guards = Vec::new();
    for id in &ids {
        guards.push(store.lock(id).lifetime(60 * SECOND).await.unwrap());
        assert_eq!(tickets(&store, id).await, 1);
    }
    let listed: HashSet<_> = listed(&store).await.into_iter().collect();
    assert_eq!(listed, ids.into_iter().collect());

    for wrong in [String::new(), "x".repeat(1025)] {
        let error = store.lock(&wrong).await.unwrap_err();
        assert_eq!(error.kind(), LockErrorKind::InvalidConversationId);
    }
}

pub(super) async fn conversations_are_listed_once(storage: Storage) {
    let store = storage.store().await;
    assert!(listed(&store).await.is_empty());
    let mut guards = Vec::new();
    for i in 0..500 {
        let id = format!("conversation-{i}");
        guards.push(store.lock(id).lifetime(60 * SECOND).await.unwrap());
    }
    let ids = listed(&store).await;
    assert_eq!(ids.len(), 500);
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 500);
}

async fn listed(store: &LockStore) -> Vec<String> {
    let ids = store.conversations().map_ok(|id| id.as_str().to_owned());
    ids.try_collect().await.unwrap()
}
