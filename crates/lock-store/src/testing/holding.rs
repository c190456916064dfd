//! What a holder may rely on.

use std::time::Duration;

use super::{SECOND, Storage, soon, tickets, times_out, until};
use crate::{LockErrorKind, LockGuard, LockStore};

pub(super) async fn the_first_is_served_at_once(storage: Storage) {
    let store = storage.store().await;
    let guard = store.lock("a").await.unwrap();
    assert_eq!(guard.ticket_number(), 0);
    assert_eq!(guard.conversation_id().as_str(), "a");
    assert!(!guard.is_lost());
    assert!(guard.deadline() + SECOND > std::time::Instant::now());
    guard.release().await.unwrap();
}

pub(super) async fn nobody_else_is_served(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let guard = one.lock("a").keep_alive(true).await.unwrap();
    for store in [&one, &other] {
        times_out(store, "a", SECOND / 20).await;
        assert!(store.try_lock("a").await.unwrap().is_none());
    }
    guard.release().await.unwrap();
    assert!(other.try_lock("a").await.unwrap().is_some());
}

pub(super) async fn conversations_do_not_meet(storage: Storage) {
    let store = storage.store().await;
    let mut guards = Vec::new();
    for i in 0..50 {
        guards.push(store.lock(format!("conversation-{i}")).await.unwrap());
    }
    assert!(guards.iter().all(|guard| guard.ticket_number() == 0));
}

pub(super) async fn try_lock_never_queues(storage: Storage) {
    let store = storage.store().await;
    let guard = store.try_lock("a").await.unwrap().expect("nobody is there");
    for _ in 0..3 {
        assert!(store.try_lock("a").await.unwrap().is_none());
    }
    assert_eq!(tickets(&store, "a").await, 1);
    guard.release().await.unwrap();
    assert!(store.try_lock("a").await.unwrap().is_some());
}

pub(super) async fn tokens_only_rise(storage: Storage) {
    let stores = [storage.store().await, storage.store().await];
    let mut last = None;
    for round in 0..200 {
        let guard = stores[round % 2].lock("a").await.unwrap();
        let token = guard.fencing_token();
        assert!(last < Some(token), "{last:?} is followed by {token:?}");
        last = Some(token);
        guard.release().await.unwrap();
    }
}

pub(super) async fn a_lease_is_extended(storage: Storage) {
    let store = storage.store().await;
    let guard = store.lock("a").lifetime(3 * SECOND).await.unwrap();
    let before = guard.deadline();
    guard.extend(30 * SECOND).await.unwrap();
    assert!(guard.deadline() > before + 20 * SECOND);
    // Longer than the first lease: it holds.
    let refused = store.lock("a").wait_timeout(4 * SECOND).await;
    assert!(refused.unwrap_err().is_timed_out());
    guard.release().await.unwrap();
}

/// One that runs out soon, but not before it is had.
async fn short_lease(store: &LockStore) -> LockGuard {
    let mut lifetime = SECOND / 4;
    loop {
        match store.lock("a").lifetime(lifetime).await {
            Ok(guard) => return guard,
            Err(error) => assert!(error.is_lost() && lifetime < 20 * SECOND, "{error}"),
        }
        lifetime *= 2;
    }
}

pub(super) async fn a_lease_runs_out(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let guard = short_lease(&one).await;
    let next = soon(other.lock("a")).await.unwrap();
    // Whoever held it must know before the next is served.
    assert!(guard.is_lost());
    assert!(soon(guard.lost()).await.is_lost());
    assert!(guard.extend(SECOND).await.unwrap_err().is_lost());
    assert!(guard.fencing_token() < next.fencing_token());
    assert!(guard.release().await.unwrap_err().is_lost());
    assert!(!next.is_lost());
}

pub(super) async fn a_late_release_harms_nobody(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let late = short_lease(&one).await;
    let holder = soon(other.lock("a").keep_alive(true)).await.unwrap();
    assert!(late.release().await.is_err());
    times_out(&one, "a", SECOND / 10).await;
    holder.release().await.unwrap();
}

pub(super) async fn a_lease_is_kept_alive(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let guard = one.lock("a").lifetime(5 * SECOND).keep_alive(true).await;
    let guard = guard.unwrap();
    let refused = other.lock("a").wait_timeout(7 * SECOND).await;
    assert!(refused.unwrap_err().is_timed_out());
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    assert_eq!(tickets(&one, "a").await, 0);
}

pub(super) async fn a_dropped_guard_releases(storage: Storage) {
    let store = storage.store().await;
    drop(store.lock("a").lifetime(60 * SECOND).await.unwrap());
    soon(store.lock("a"))
        .await
        .unwrap()
        .release()
        .await
        .unwrap();

    drop(store.lock("a").lifetime(60 * SECOND).await.unwrap());
    soon(store.close()).await.unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

pub(super) async fn deleting_tells_the_holder(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let guard = one.lock("a").lifetime(60 * SECOND).await.unwrap();
    let lost = async { guard.lost().await };
    let delete = async {
        assert!(other.delete_lock("a").await.unwrap());
    };
    let (error, ()) = soon(async { tokio::join!(lost, delete) }).await;
    assert_eq!(error.kind(), LockErrorKind::Lost);
    assert_eq!(error.conversation_id().unwrap().as_str(), "a");
    assert!(guard.is_lost());
    assert!(guard.release().await.unwrap_err().is_lost());
    assert!(!other.delete_lock("a").await.unwrap());
}

pub(super) async fn work_stops_when_the_lock_is_lost(storage: Storage) {
    let store = storage.store().await;
    let done = store.run("a", async |guard| guard.ticket_number()).await;
    assert_eq!(done.unwrap(), 0);

    let stopped = store
        .lock("a")
        .lifetime(SECOND / 4)
        .run(async |_guard| std::future::pending::<()>().await);
    assert!(soon(stopped).await.unwrap_err().is_lost());
    until(async || tickets(&store, "a").await == 0).await;
}

pub(super) async fn a_closed_store_takes_no_locks(storage: Storage) {
    let (store, other) = (storage.store().await, storage.store().await);
    let guard = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    store.close().await.unwrap();
    let refused = store.lock("b").await.unwrap_err();
    assert_eq!(refused.kind(), LockErrorKind::Closed);
    // What it holds stays good.
    guard.extend(Duration::from_secs(60)).await.unwrap();
    guard.release().await.unwrap();
    assert!(other.try_lock("a").await.unwrap().is_some());
}
