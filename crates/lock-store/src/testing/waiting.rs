//! What a waiter may rely on, whatever becomes of the others.

use std::time::Duration;

use tokio::time::Instant;

use super::{SECOND, Storage, soon, tickets, times_out, until};
use crate::{
    Claim, Claimed, ClientId, ConversationId, Finish, Finished, Issue, Issued, LockErrorKind,
    LockStore, Owner, TicketName, Timing,
};

pub(super) async fn a_wait_times_out(storage: Storage) {
    let store = storage.store().await;
    let _holder = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    let _ahead = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    let error = times_out(&store, "a", SECOND / 4).await;
    assert_eq!(error.kind(), LockErrorKind::TimedOut);
    assert_eq!(error.conversation_id().unwrap().as_str(), "a");
    assert_eq!(error.ahead(), Some(2));
    assert!(error.waited().unwrap() >= SECOND / 4);
    assert!(began.elapsed() >= SECOND / 4);
    assert!(error.is_retryable());
    until(async || tickets(&store, "a").await == 2).await;
}

pub(super) async fn a_dead_holder_is_found(storage: Storage) {
    let store = storage.impatient_store().await;
    // Nobody will release this one, and no message will ever arrive.
    let ghost = Ghost::new(&store, 3 * SECOND);
    assert!(matches!(ghost.issue("a", 0).await, Issued::Served { .. }));
    let began = Instant::now();
    let guard = soon(store.lock("a").lifetime(60 * SECOND)).await.unwrap();
    assert!(began.elapsed() < 20 * SECOND);
    assert_eq!(guard.ticket_number(), 1);
}

pub(super) async fn a_dead_client_costs_one_claim_window(storage: Storage) {
    // Whoever is alive has as long to answer.
    let timing = Timing {
        lock_lifetime: 60 * SECOND,
        claim_window: 3 * SECOND,
        ..Timing::default()
    };
    let store = storage.store_with(timing).await;
    let holder = store.lock("a").await.unwrap();
    let ghost = Ghost::new(&store, 60 * SECOND);
    for sequence in 0..50 {
        ghost.issue("a", sequence).await;
    }
    let place = store.take_ticket("a").await.unwrap();
    assert_eq!(place.position().await.unwrap(), 51);
    let released = Instant::now();
    holder.release().await.unwrap();
    let guard = soon(place.wait()).await.unwrap();
    let waited = released.elapsed();
    assert!(waited < 30 * SECOND, "it took {waited:?} for 50 tickets");
    guard.release().await.unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

pub(super) async fn a_client_that_waited_too_long_is_not_dead(storage: Storage) {
    let (store, other) = (storage.store().await, storage.store().await);
    let holder = store.lock("a").lifetime(60 * SECOND).await.unwrap();
    times_out(&other, "a", SECOND / 10).await;
    let patient = other.take_ticket("a").await.unwrap();
    holder.release().await.unwrap();
    soon(patient.wait()).await.unwrap().release().await.unwrap();
}

pub(super) async fn a_promoted_ticket_is_claimed_for_a_busy_caller(storage: Storage) {
    // On a busy machine a claim may come too late for a short window.
    let mut window = SECOND / 2;
    while !is_claimed_within(window, &storage).await {
        assert!(window < 8 * SECOND, "it is not claimed");
        window *= 2;
    }
}

async fn is_claimed_within(window: Duration, storage: &Storage) -> bool {
    // Whoever promotes a ticket says how long it is until it must be claimed.
    let timing = Timing {
        lock_lifetime: 60 * SECOND,
        claim_window: window,
        ..Timing::default()
    };
    let one = storage.store_with(timing.clone()).await;
    let other = storage.store_with(timing).await;
    let holder = one.lock("a").await.unwrap();
    // Takes a ticket, and is then too busy to look at it.
    let place = other.take_ticket("a").await.unwrap();
    holder.release().await.unwrap();
    // Far beyond the claim window the turn is still its own.
    let next = one.lock("a").wait_timeout(4 * window).await;
    match soon(place.wait()).await {
        Ok(guard) => {
            let refused = next.unwrap_err();
            assert!(
                refused.is_timed_out() || refused.is_unavailable(),
                "{refused}"
            );
            assert!(!guard.is_lost());
            guard.release().await.unwrap();
            true
        }
        Err(error) => {
            assert!(error.is_gone(), "{error}");
            false
        }
    }
}

pub(super) async fn deleting_tells_the_waiters(storage: Storage) {
    let (one, other) = (storage.store().await, storage.store().await);
    let holder = one.lock("a").lifetime(60 * SECOND).await.unwrap();
    let waiter = tokio::spawn(async move { other.lock("a").await });
    let place = one.take_ticket("a").await.unwrap();
    until(async || tickets(&one, "a").await == 3).await;
    assert!(one.delete_lock("a").await.unwrap());

    let error = soon(waiter).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::Gone);
    assert!(error.is_retryable());
    assert!(soon(place.wait()).await.unwrap_err().is_gone());
    // Newcomers go on, with a higher token.
    let next = one.lock("a").await.unwrap();
    assert!(next.fencing_token() > holder.fencing_token());
    assert!(holder.release().await.is_err());
    assert!(!next.is_lost());
}

pub(super) async fn repeated_steps_change_nothing_more(storage: Storage) {
    let store = storage.store().await;
    let ghost = Ghost::new(&store, 60 * SECOND);
    let other = Ghost::new(&store, 60 * SECOND);
    let first = ghost.issue("a", 0).await;
    let again = ghost.issue_again("a", 0).await;
    assert_eq!(first, again);
    let (Issued::Waiting { number, .. }, Issued::Waiting { number: again, .. }) =
        (other.issue("a", 0).await, other.issue_again("a", 0).await)
    else {
        panic!("two are served");
    };
    assert_eq!((number, again), (1, 1));
    assert_eq!(tickets(&store, "a").await, 2);

    for _ in 0..2 {
        assert!(matches!(
            ghost.claim("a", 0).await,
            Claimed::Served { number: 0, .. }
        ));
        assert!(matches!(
            other.claim("a", 0).await,
            Claimed::Waiting { ahead: 1, .. }
        ));
    }
    assert!(ghost.finish("a", 0).await.found);
    ghost.finish("a", 0).await;
    assert_eq!(tickets(&store, "a").await, 1);
    assert_eq!(ghost.claim("a", 0).await, Claimed::Gone);
    for _ in 0..2 {
        assert!(matches!(
            other.claim("a", 0).await,
            Claimed::Served { number: 1, .. }
        ));
    }
    assert!(other.finish("a", 0).await.found);
    other.finish("a", 0).await;
    assert_eq!(tickets(&store, "a").await, 0);
}

/// A client that is dead, or does only what it is told: it takes the steps of
/// a ticket itself, and hears no wake-up.
pub(super) struct Ghost<'s> {
    store: &'s LockStore,
    client: ClientId,
    /// Of its tickets, as they are issued.
    lifetime: Duration,
}

impl<'s> Ghost<'s> {
    pub(super) fn new(store: &'s LockStore, lifetime: Duration) -> Self {
        Self {
            store,
            client: ClientId::random(),
            lifetime,
        }
    }

    pub(super) fn owner(&self, sequence: u64) -> Owner {
        let client = self.client;
        Owner { client, sequence }
    }

    pub(super) async fn issue(&self, id: &str, sequence: u64) -> Issued {
        self.ask(id, sequence, false).await
    }

    async fn issue_again(&self, id: &str, sequence: u64) -> Issued {
        self.ask(id, sequence, true).await
    }

    /// Hands the lock on to this ticket.
    pub(super) async fn advance(&self, id: &str, sequence: u64) -> Claimed {
        let claim = Claim::new(self.owner(sequence), 60 * SECOND, 60 * SECOND);
        let answer = self.store.backend().advance(&conversation(id), &claim);
        answer.resolve().await.unwrap()
    }

    /// Finishes the ticket with those that were handed over before it.
    pub(super) async fn finish_with(
        &self,
        id: &str,
        sequence: u64,
        numbers: (u64, u64),
    ) -> Finished {
        let (first, number) = numbers;
        let finish = Finish {
            number: Some(number),
            first_finished: Some(first),
            ..Finish::new(TicketName::Owner(self.owner(sequence)), 60 * SECOND)
        };
        let answer = self.store.backend().finish(&conversation(id), &finish);
        answer.resolve().await.unwrap()
    }

    async fn ask(&self, id: &str, sequence: u64, repeated: bool) -> Issued {
        let issue = Issue {
            wait_timeout: 60 * SECOND,
            repeated,
            ..Issue::new(Some(self.owner(sequence)), self.lifetime, 60 * SECOND)
        };
        let answer = self.store.backend().issue(&conversation(id), &issue);
        answer.resolve().await.unwrap()
    }

    pub(super) async fn claim(&self, id: &str, sequence: u64) -> Claimed {
        let claim = Claim {
            number: None,
            ..Claim::new(self.owner(sequence), 60 * SECOND, 60 * SECOND)
        };
        let answer = self.store.backend().claim(&conversation(id), &claim);
        answer.resolve().await.unwrap()
    }

    pub(super) async fn finish(&self, id: &str, sequence: u64) -> Finished {
        let finish = Finish {
            number: None,
            ..Finish::new(TicketName::Owner(self.owner(sequence)), 60 * SECOND)
        };
        let answer = self.store.backend().finish(&conversation(id), &finish);
        answer.resolve().await.unwrap()
    }
}

fn conversation(id: &str) -> ConversationId {
    ConversationId::new(id).unwrap()
}
