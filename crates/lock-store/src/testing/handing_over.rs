//! Handing a lock on within one store before the storage knows.
//!
//! A backend that does not [hand over](crate::Backend::hands_over) is not asked
//! to; its tickets are served in the same order all the same.

use std::future::IntoFuture as _;

use super::waiting::Ghost;
use super::{SECOND, Storage, soon, tickets, until};
use crate::{Claimed, LockStore, TicketLock};

/// A ticket of each of these ghosts, in this order; the first one is served.
async fn in_line(ghosts: &[&Ghost<'_>]) {
    for (sequence, ghost) in ghosts.iter().enumerate() {
        ghost.issue("a", sequence as u64).await;
    }
}

fn is_served(claimed: Claimed, number: u64) -> bool {
    matches!(claimed, Claimed::Served { number: served, .. } if served == number)
}

async fn numbers(store: &LockStore) -> Vec<u64> {
    let lock = store.get_lock("a").await.unwrap();
    let tickets = lock.iter().flat_map(TicketLock::tickets);
    tickets.map(|ticket| ticket.number).collect()
}

pub(super) async fn an_advance_serves_and_removes(storage: Storage) {
    let store = storage.store().await;
    if !store.backend().hands_over() {
        return;
    }
    let (ghost, other) = (
        Ghost::new(&store, 60 * SECOND),
        Ghost::new(&store, 60 * SECOND),
    );
    in_line(&[&ghost, &ghost, &ghost, &ghost, &other]).await;
    // Past two that were finished; and once more, should the reply be lost.
    for _ in 0..2 {
        assert!(is_served(ghost.advance("a", 2).await, 2));
        assert_eq!(numbers(&store).await, [2, 3, 4]);
    }
    assert!(is_served(ghost.claim("a", 2).await, 2));
    assert_eq!(ghost.claim("a", 1).await, Claimed::Gone);
    assert!(matches!(
        other.claim("a", 4).await,
        Claimed::Waiting { ahead: 2, .. }
    ));
    // One that comes late.
    assert_eq!(ghost.advance("a", 1).await, Claimed::Gone);
    assert!(ghost.finish("a", 2).await.found);
    assert_eq!(numbers(&store).await, [3, 4]);
    store.delete_lock("a").await.unwrap();
}

pub(super) async fn an_advance_to_a_ticket_that_is_gone_changes_nothing(storage: Storage) {
    let store = storage.store().await;
    if !store.backend().hands_over() {
        return;
    }
    let (ghost, other) = (
        Ghost::new(&store, 60 * SECOND),
        Ghost::new(&store, 60 * SECOND),
    );
    in_line(&[&ghost, &ghost, &other]).await;
    assert!(ghost.finish("a", 1).await.found);
    for _ in 0..2 {
        assert_eq!(ghost.advance("a", 1).await, Claimed::Gone);
        assert_eq!(numbers(&store).await, [0, 2]);
        assert!(matches!(
            other.claim("a", 2).await,
            Claimed::Waiting { ahead: 1, .. }
        ));
    }
    // What the holder without a ticket gives back in the end.
    let finished = ghost.finish_with("a", 1, (0, 1)).await;
    assert!(!finished.found);
    assert_eq!(finished.next, Some(other.owner(2)));
    assert!(is_served(other.claim("a", 2).await, 2));
    store.delete_lock("a").await.unwrap();
}

pub(super) async fn an_advance_passes_no_other_client(storage: Storage) {
    let store = storage.store().await;
    if !store.backend().hands_over() {
        return;
    }
    let (ghost, other) = (
        Ghost::new(&store, 60 * SECOND),
        Ghost::new(&store, 60 * SECOND),
    );
    in_line(&[&ghost, &other, &ghost]).await;
    assert!(matches!(
        ghost.advance("a", 2).await,
        Claimed::Waiting { ahead: 2, .. }
    ));
    assert_eq!(numbers(&store).await, [0, 1, 2]);
    assert!(ghost.finish("a", 0).await.found);
    assert!(matches!(
        ghost.advance("a", 2).await,
        Claimed::Waiting { ahead: 1, .. }
    ));
    assert!(is_served(other.claim("a", 1).await, 1));
    assert!(other.finish("a", 1).await.found);
    assert!(is_served(ghost.advance("a", 2).await, 2));
    store.delete_lock("a").await.unwrap();
}

pub(super) async fn a_finish_removes_what_was_finished_before(storage: Storage) {
    let store = storage.store().await;
    if !store.backend().hands_over() {
        return;
    }
    let (ghost, other) = (
        Ghost::new(&store, 60 * SECOND),
        Ghost::new(&store, 60 * SECOND),
    );
    in_line(&[&ghost, &ghost, &ghost, &ghost, &other]).await;
    let finished = ghost.finish_with("a", 2, (0, 2)).await;
    assert!(finished.found);
    assert_eq!(finished.next, Some(ghost.owner(3)));
    assert_eq!(numbers(&store).await, [3, 4]);
    // Once more, should the reply be lost.
    ghost.finish_with("a", 2, (0, 2)).await;
    assert_eq!(numbers(&store).await, [3, 4]);
    assert!(is_served(ghost.claim("a", 3).await, 3));
    // Tickets of another client are not among them.
    other.finish_with("a", 4, (0, 4)).await;
    assert_eq!(numbers(&store).await, [3]);
    assert!(ghost.finish_with("a", 3, (2, 3)).await.found);
    assert_eq!(tickets(&store, "a").await, 0);
}

pub(super) async fn a_finish_removes_no_ticket_of_a_later_queue(storage: Storage) {
    let store = storage.store().await;
    if !store.backend().hands_over() {
        return;
    }
    let ghost = Ghost::new(&store, 60 * SECOND);
    in_line(&[&ghost, &ghost]).await;
    assert!(store.delete_lock("a").await.unwrap());
    for sequence in 2..5 {
        ghost.issue("a", sequence).await;
    }
    assert!(!ghost.finish_with("a", 1, (0, 1)).await.found);
    assert_eq!(numbers(&store).await, [0, 1, 2]);
    assert!(is_served(ghost.claim("a", 2).await, 0));
    store.delete_lock("a").await.unwrap();
}

pub(super) async fn tickets_are_issued_in_the_order_of_first_polls(storage: Storage) {
    let store = storage.store().await;
    let holder = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    for _ in 0..5 {
        let first = numbers(&store).await.pop().unwrap() + 1;
        let mut waiter = Box::pin(store.lock("a").into_future());
        let take = async || store.take_ticket("a").await.unwrap();
        // Polled once each, one after the other, before any of them goes on.
        let (one, attempt, next, (), last) = soon(async {
            let wait = async { assert!(futures_util::poll!(&mut waiter).is_pending()) };
            tokio::join!(biased; take(), store.try_lock("a").into_future(), take(), wait, take())
        })
        .await;
        assert!(attempt.unwrap().is_none());
        let got = [&one, &next, &last].map(crate::Place::ticket_number);
        assert_eq!(got, [first, first + 1, first + 3]);
        drop((one, next, waiter, last));
        until(async || tickets(&store, "a").await == 1).await;
    }
    holder.release().await.unwrap();
}

pub(super) async fn a_lock_goes_through_the_line_of_a_store(storage: Storage) {
    let (store, other) = (storage.store().await, storage.store().await);
    let mut guard = store.lock("a").await.unwrap();
    let mut places = Vec::new();
    for i in 0..12 {
        let of = if i % 5 == 4 { &other } else { &store };
        places.push(of.take_ticket("a").await.unwrap());
    }
    for (number, place) in (1..).zip(places) {
        let token = guard.fencing_token();
        assert!(store.try_lock("a").await.unwrap().is_none());
        guard.release().await.unwrap();
        guard = soon(place.wait()).await.unwrap();
        assert_eq!(guard.ticket_number(), number);
        assert!(guard.fencing_token() > token && !guard.is_lost());
    }
    guard.release().await.unwrap();
    soon(store.close()).await.unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}
