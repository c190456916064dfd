//! Looks and calls on a storage that takes its time: late, in another order, or
//! lost.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use lock_store::{Backend, Finish, LockErrorKind, LockStore, TicketName, WakeUp};
use support::probe::probe;
use support::slow_story::*;
use support::tickets;
use tokio::time::{Instant, sleep, timeout};

// One's own ticket that is next.

#[tokio::test(start_paused = true)]
async fn whoever_is_next_in_the_same_store_needs_no_call() {
    for way in 0..3 {
        let (slow, store) = slow_store();
        let holder = store.lock("a").await.unwrap();
        let next = store.take_ticket("a").await.unwrap();
        let mut next = probe(next.wait());
        next.assert_pending();
        slow.pushes().withhold();
        match way {
            0 => holder.release().await.unwrap(),
            1 => drop(holder),
            _ => store.cleanup("a", 0).await.unwrap(),
        }
        settle().await;
        assert!(next.is_woken());
        let guard = next.assert_ready().unwrap();
        // The call comes after all, for nothing.
        assert!(slow.pushes().deliver() > 0);
        settle().await;
        assert_eq!(slow.claims().begun(), 1);
        sleep(59 * SECOND).await;
        assert!(!guard.is_lost());
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_in_one_store_needs_no_calls() {
    let (slow, store) = slow_store();
    slow.pushes().lose();
    let mut guard = store.lock("a").await.unwrap();
    let mut line = Vec::new();
    for _ in 0..5 {
        line.push(store.take_ticket("a").await.unwrap());
    }
    let began = Instant::now();
    for place in line {
        guard.release().await.unwrap();
        guard = place.wait().await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

// When the head of the queue would be dead.

/// How late an answer is noticed does not make a head live longer.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_noticed_late_does_not_move_a_look() {
    for late in [500 * MS, 900 * MS, 3 * SECOND] {
        let (slow, store) = slow_store();
        stranger(&slow, SECOND).await;
        let began = Instant::now();
        slow.issues().hold_replies();
        let mut acquiring = probe(store.lock("a"));
        acquiring.assert_pending();
        sleep(late).await;
        slow.issues().let_go();
        acquiring.assert_pending();
        drop(acquiring.rest().await.unwrap());
        assert_eq!(began.elapsed(), late.max(SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_does_not_move_a_look() {
    let (slow, store) = slow_store();
    let head = stranger(&slow, 60 * SECOND).await;
    let place = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    slow.claims().hold_replies();
    let mut older = probe(place.position());
    older.assert_pending();
    slow.claims().free();
    sleep(100 * MS).await;
    extend_of(&slow, head, SECOND).await;
    assert_eq!(place.position().await.unwrap(), 1);
    sleep(100 * MS).await;
    slow.claims().let_go();
    assert_eq!(older.assert_ready().unwrap(), 1);
    drop(older);
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), 1_100 * MS);
}

/// A newer one does: the head lives longer, and is not asked for in vain.
#[tokio::test(start_paused = true)]
async fn a_newer_answer_moves_a_look() {
    let (slow, store) = slow_store();
    let head = stranger(&slow, 10 * SECOND).await;
    let place = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    sleep(SECOND).await;
    extend_of(&slow, head, 30 * SECOND).await;
    assert_eq!(place.position().await.unwrap(), 1);
    assert_eq!(slow.claims().begun(), 1);
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), 31 * SECOND);
    assert_eq!(slow.claims().begun(), 2);
}

// Closing.

/// On threads of their own, as what was wrong here was wrong between two
/// instructions. Nothing is left to be done, so each ends at once.
#[test]
fn those_who_close_at_once_all_end() {
    let store = LockStore::in_memory();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    probe(store.close()).assert_ready().unwrap();
                }
            });
        }
    });
}

#[tokio::test(start_paused = true)]
async fn those_who_close_wait_for_what_goes_on() {
    let (slow, store) = slow_store();
    let guard = store.lock("a").await.unwrap();
    slow.finishes().hold_requests();
    drop(guard);
    let mut first = probe(store.close());
    let mut second = probe(store.close());
    first.assert_pending();
    second.assert_pending();
    sleep(SECOND).await;
    first.assert_pending();
    slow.finishes().let_go();
    settle().await;
    first.assert_ready().unwrap();
    probe(store.close()).assert_ready().unwrap();
    second.assert_ready().unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

// A runtime that ends before the store does.

#[test]
fn a_wait_ends_although_the_runtime_of_the_timers_is_gone() {
    for slow in [false, true] {
        let store = if slow {
            slow_store().1
        } else {
            LockStore::in_memory()
        };
        let (first, second) = (runtime(), runtime());
        let holder = first.block_on(async { store.lock("a").await.unwrap() });
        let mut other = probe(store.lock("a").wait_timeout(50 * SECOND));
        first.block_on(async { other.assert_pending() });
        let waiting = store.clone();
        let waiting = second.spawn(async move {
            let began = Instant::now();
            let error = waiting.lock("a").wait_timeout(SECOND).await.unwrap_err();
            (error.kind(), began.elapsed())
        });
        second.block_on(settle());
        drop(first);
        let ended = second.block_on(async { timeout(30 * SECOND, waiting).await });
        let (kind, after) = ended.unwrap().unwrap();
        assert_eq!(kind, LockErrorKind::TimedOut);
        // Timers fire at whole milliseconds of their own clock.
        assert!((SECOND..=SECOND + 2 * MS).contains(&after), "{after:?}");
        drop((other, holder));
    }
}

/// Also when its request is not answered.
#[test]
fn a_request_ends_although_the_runtime_of_the_timers_is_gone() {
    let (slow, store) = slow_store();
    let (first, second) = (runtime(), runtime());
    let holder = first.block_on(async { store.lock("a").await.unwrap() });
    let mut other = probe(store.lock("a").wait_timeout(50 * SECOND));
    first.block_on(async { other.assert_pending() });
    slow.issues().hold_replies();
    let mut asking = probe(store.lock("a").wait_timeout(SECOND));
    second.block_on(async { asking.assert_pending() });
    drop(first);
    second.block_on(async {
        asking.assert_pending();
        sleep(SECOND).await;
        settle().await;
        assert!(asking.assert_ready().unwrap_err().is_unavailable());
    });
    drop((other, holder));
}

// Who waits and who is first.

/// Between finding that somebody has waited too long and saying so, their turn
/// comes: then it has come.
#[tokio::test(start_paused = true)]
async fn a_turn_that_has_come_is_not_taken_away_by_the_limit() {
    let (slow, store) = slow_store();
    let head = store_on(&slow).lock("a").await.unwrap();
    // Two whose time is over at the same moment; the first is not there any more.
    let mut first = probe(store.lock("a").wait_timeout(10 * SECOND));
    first.assert_pending();
    slow.pushes().lose();
    let gone = Finish::new(TicketName::Owner(slow.last_owner()), SECOND);
    slow.memory().finish(&id(), &gone).resolve().await.unwrap();
    let place = store.take_ticket("a").wait_timeout(10 * SECOND);
    let place = place.await.unwrap();
    sleep(9 * SECOND).await;
    slow.pushes().lose();
    head.release().await.unwrap();
    // It is claimed, and that is on its way back.
    slow.claims().hold_replies();
    let mut second = probe(async move {
        place.position().await?;
        place.wait().await
    });
    second.assert_pending();
    let guard = Arc::new(Mutex::new(None));
    let (gate, won) = (slow.clone(), guard.clone());
    slow.at_next_finish(move || {
        gate.claims().let_go();
        if let Poll::Ready(outcome) = second.poll() {
            *won.lock().unwrap() = Some(outcome.unwrap());
        }
    });
    sleep(2 * SECOND).await;
    let guard = guard.lock().unwrap().take().unwrap();
    assert!(!guard.is_lost());
    assert_eq!(tickets(&store, "a").await, 1);
    assert!(first.assert_ready().is_err());
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

/// A storage lost its data, and numbers began anew: those from before are
/// first in line, and learn that they are gone.
#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_those_from_before_learn_of_it_first() {
    let (slow, store) = slow_store();
    stranger(&slow, 3600 * SECOND).await;
    stranger(&slow, 3600 * SECOND).await;
    let mut old = probe(store.lock("a").wait_timeout(Duration::MAX));
    old.assert_pending();
    slow.pushes().lose();
    store.delete_lock("a").await.unwrap();
    let began = Instant::now();
    stranger(&slow, 20 * SECOND).await;
    let mut new = probe(store.lock("a").wait_timeout(Duration::MAX));
    new.assert_pending();
    slow.pushes().deliver();
    slow.announce(&WakeUp::Resumed);
    settle().await;
    assert!(old.is_woken());
    assert!(old.assert_ready().unwrap_err().is_gone());
    let guard = new.rest().await.unwrap();
    assert_eq!(guard.ticket_number(), 1);
    assert_eq!(began.elapsed(), 20 * SECOND);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}
