//! The methods of Rasa's lock store.

use super::{SECOND, Storage, soon, tickets};
use crate::{LockStore, Timestamp};

pub(super) async fn numbers_are_as_in_rasa(storage: Storage) {
    let store = storage.store().await;
    assert_eq!(store.get_lock("a").await.unwrap(), None);
    assert!(!store.is_someone_waiting("a").await.unwrap());
    assert!(store.get_or_create_lock("a").await.unwrap().is_empty());

    assert_eq!(store.issue_ticket("a", 60 * SECOND).await.unwrap(), 0);
    assert_eq!(store.issue_ticket("a", 60 * SECOND).await.unwrap(), 1);
    assert!(store.is_someone_waiting("a").await.unwrap());

    let lock = store.get_lock("a").await.unwrap().unwrap();
    let now = Timestamp::now();
    assert_eq!(lock.last_issued(now), Some(1));
    assert_eq!(lock.now_serving(now), Some(0));
    assert!(!lock.is_locked(0, now));
    assert!(lock.is_locked(1, now));
    assert!(!lock.has_lock_expired(1, now));
}

pub(super) async fn tickets_by_number_are_served_in_order(storage: Storage) {
    let store = storage.store().await;
    let first = store.issue_ticket("a", 60 * SECOND).await.unwrap();
    let second = store.issue_ticket("a", 60 * SECOND).await.unwrap();
    // Somebody who is woken stands between those who are not.
    let place = store.take_ticket("a").await.unwrap();

    store.finish_serving("a", first).await.unwrap();
    store.finish_serving("a", first).await.unwrap();
    let lock = store.get_lock("a").await.unwrap().unwrap();
    assert_eq!(lock.now_serving(Timestamp::now()), Some(second));
    store.cleanup("a", second).await.unwrap();

    let guard = soon(place.wait()).await.unwrap();
    assert_eq!(guard.ticket_number(), 2);
    guard.release().await.unwrap();
    assert_eq!(store.get_lock("a").await.unwrap(), None);
}

pub(super) async fn locks_are_saved_and_deleted(storage: Storage) {
    let store = storage.store().await;
    let now = Timestamp::now();
    let mut lock = store.create_lock("a").unwrap();
    assert_eq!(store.get_lock("a").await.unwrap(), None);
    lock.issue_ticket(60 * SECOND, now);
    lock.issue_ticket(60 * SECOND, now);
    store.save_lock(&lock).await.unwrap();

    let saved = store.get_lock("a").await.unwrap().unwrap();
    assert_eq!(saved.to_json(), lock.to_json());
    // Tokens go on from what was saved.
    let place = store.take_ticket("a").await.unwrap();
    assert_eq!(place.ticket_number(), 2);
    assert_eq!(tickets(&store, "a").await, 3);

    assert!(store.delete_lock("a").await.unwrap());
    assert!(!store.delete_lock("a").await.unwrap());
    assert!(soon(place.wait()).await.unwrap_err().is_gone());
    store
        .save_lock(&store.create_lock("a").unwrap())
        .await
        .unwrap();
    assert_eq!(store.get_lock("a").await.unwrap(), None);
}

pub(super) async fn an_expired_ticket_by_number_is_dropped(storage: Storage) {
    let store = storage.store().await;
    issue_one_that_expires_soon(&store, "a").await;
    let second = store.issue_ticket("a", 60 * SECOND).await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    soon(async {
        while tickets(&store, "a").await > 2 {
            store.update_lock("a").await.unwrap();
            tokio::time::sleep(SECOND / 100).await;
        }
    })
    .await;
    // The one behind it is served for what is left of its own time.
    let lock = store.get_lock("a").await.unwrap().unwrap();
    assert_eq!(lock.tickets().next().unwrap().number, second);
    store.finish_serving("a", second).await.unwrap();
    soon(place.wait()).await.unwrap().release().await.unwrap();
}

/// As soon as the storage can: it has no longer to answer than the ticket has
/// to live.
async fn issue_one_that_expires_soon(store: &LockStore, id: &str) {
    let mut lifetime = SECOND / 4;
    while let Err(error) = store.issue_ticket(id, lifetime).await {
        assert!(error.is_unavailable() && lifetime < 20 * SECOND, "{error}");
        lifetime *= 2;
    }
}
