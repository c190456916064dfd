//! A release hands the lock to the next ticket of the same store at once, on
//! the lease that the storage still sees. One step, `advance`, tells the storage
//! meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::{
    Acquiring, Backend, Finish, Finished, Lock, LockErrorKind, LockGuard, LockStore, Owner,
    Request, TicketLock, TicketName,
};
use support::probe::{Probe, probe};
use support::slow::{Gate, Slow};
use support::slow_story::*;
use tokio::time::{Instant, sleep, timeout};

type Waiter = Probe<Acquiring<Lock>>;

/// A storage with two stores that hand locks on, and a lock of the first store.
struct Story {
    slow: Slow,
    store: LockStore,
    other: LockStore,
    holder: LockGuard,
}

async fn story() -> Story {
    let (slow, store) = slow_store();
    slow.hand_over();
    let other = store_on(&slow);
    let holder = store.lock("a").await.unwrap();
    // So that the lease that is handed over is not a new one.
    sleep(10 * SECOND).await;
    Story {
        slow,
        store,
        other,
        holder,
    }
}

fn long_wait(store: &LockStore) -> Request<Lock> {
    store.lock("a").wait_timeout(3600 * SECOND)
}

fn waiter(request: Request<Lock>) -> Waiter {
    let mut waiter = probe(request);
    waiter.assert_pending();
    waiter
}

/// Releases it without a reply of the storage.
#[track_caller]
fn release_at_once(guard: LockGuard) {
    probe(guard.release()).assert_ready().unwrap();
}

/// The lock of a waiter to which it was handed over.
#[track_caller]
fn handed_over(mut waiter: Waiter) -> LockGuard {
    assert!(waiter.is_woken(), "the next waiter is not woken");
    waiter.assert_ready().unwrap()
}

/// Removes the ticket of `owner`, as another client may.
async fn revoke(slow: &Slow, owner: Owner) -> Finished {
    let finish = Finish::new(TicketName::Owner(owner), 5 * SECOND);
    let finished = slow.memory().finish(&id(), &finish).resolve().await;
    finished.unwrap()
}

/// The numbers on the tickets that the storage has.
async fn stored(slow: &Slow) -> Vec<u64> {
    let lock = slow.memory().get(&id()).resolve().await.unwrap();
    let tickets = lock.iter().flat_map(TicketLock::tickets);
    tickets.map(|ticket| ticket.number).collect()
}

fn from_now(time: Duration) -> std::time::Instant {
    (Instant::now() + time).into_std()
}

#[tokio::test(start_paused = true)]
async fn the_next_waiter_has_the_lock_without_any_reply() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let next = waiter(long_wait(&store));
    let old = holder.deadline();
    let token = holder.fencing_token();
    slow.advances().hold_requests();
    slow.claims().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    assert_eq!(guard.deadline(), old);
    assert_eq!(guard.ticket_number(), 1);
    assert!(guard.fencing_token() > token);
    settle().await;
    assert_eq!(slow.advances().begun(), 1);
    assert_eq!(slow.claims().begun(), 0);
    assert_eq!(slow.finishes().begun(), 0);
    assert_eq!(stored(&slow).await, [0, 1]);

    // The lease runs from the request on, not from the reply on.
    let new = from_now(60 * SECOND);
    sleep(SECOND).await;
    assert_eq!(guard.deadline(), old);
    slow.advances().let_go();
    settle().await;
    assert_eq!(guard.deadline(), new);
    assert_eq!(stored(&slow).await, [1]);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_hands_its_lock_over() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let next = waiter(long_wait(&store));
    slow.advances().hold_requests();
    drop(holder);
    let guard = handed_over(next);
    settle().await;
    assert_eq!(slow.advances().begun(), 1);
    assert_eq!(slow.finishes().begun(), 0);
    drop(guard);
    slow.advances().let_go();
    assert_all_given_back(&store, 0).await;
}

/// A waiter that has the lock and does not know it yet is dropped.
#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_hands_the_lock_on() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let (next, last) = (waiter(long_wait(&store)), waiter(long_wait(&store)));
    slow.advances().hold_requests();
    release_at_once(holder);
    assert!(next.is_woken());
    drop(next);
    let guard = handed_over(last);
    assert_eq!(guard.ticket_number(), 2);
    settle().await;
    assert_eq!(slow.finishes().begun(), 0);
    slow.advances().free();
    slow.advances().let_go();
    settle().await;
    assert_eq!(stored(&slow).await, [2]);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_advance_covers_all_hand_offs_until_it_is_carried_out() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let Story {
            slow,
            store,
            mut holder,
            ..
        } = story().await;
        let waiters: Vec<_> = (0..5).map(|_| waiter(long_wait(&store))).collect();
        let old = holder.deadline();
        hold(slow.advances());
        let new = from_now(60 * SECOND);
        for next in waiters {
            let token = holder.fencing_token();
            release_at_once(holder);
            holder = handed_over(next);
            assert!(holder.fencing_token() > token);
            assert_eq!(holder.deadline(), old);
            settle().await;
        }
        assert_eq!(slow.advances().begun(), 1);
        sleep(SECOND).await;
        let newest = from_now(60 * SECOND);
        slow.advances().let_go();
        settle().await;
        // It confirmed the first of them, whose lease the last one has.
        assert_eq!(slow.advances().begun(), 2);
        assert_eq!(holder.deadline(), new);
        slow.advances().let_go();
        settle().await;
        assert_eq!(holder.deadline(), newest);
        assert_eq!(slow.advances().begun(), 2);
        assert_eq!(slow.finishes().begun(), 0);
        assert_eq!(stored(&slow).await, [5]);
        holder.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

/// The last one is released while the storage still sees the first one.
#[tokio::test(start_paused = true)]
async fn a_finish_removes_all_tickets_that_were_handed_over() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let Story {
            slow,
            store,
            other,
            mut holder,
        } = story().await;
        let waiters: Vec<_> = (0..3).map(|_| waiter(long_wait(&store))).collect();
        let mut stranger = waiter(long_wait(&other));
        hold(slow.advances());
        for next in waiters {
            release_at_once(holder);
            holder = handed_over(next);
        }
        settle().await;
        stranger.assert_pending();
        holder.release().await.unwrap();
        assert_eq!(stored(&slow).await, [4]);
        settle().await;
        let guard = stranger.assert_ready().unwrap();
        // Of no use any more.
        slow.advances().let_go();
        settle().await;
        assert_eq!(slow.advances().begun(), 1);
        assert!(!guard.is_lost());
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_behind_the_holder_is_not_passed() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let dropped = waiter(long_wait(&store));
    let mut next = waiter(long_wait(&store));
    drop(dropped);
    settle().await;
    assert_eq!(slow.finishes().begun(), 1);
    slow.finishes().hold_requests();
    let mut releasing = probe(holder.release());
    releasing.assert_pending();
    next.assert_pending();
    slow.finishes().free();
    slow.finishes().let_go();
    releasing.assert_ready().unwrap();
    settle().await;
    let guard = next.assert_ready().unwrap();
    assert_eq!(slow.advances().begun(), 0);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_of_another_client_is_not_passed() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    let mut stranger = waiter(long_wait(&other));
    let mut last = waiter(long_wait(&store));
    holder.release().await.unwrap();
    settle().await;
    last.assert_pending();
    let guard = stranger.assert_ready().unwrap();
    guard.release().await.unwrap();
    settle().await;
    last.assert_ready().unwrap().release().await.unwrap();
    assert_eq!(slow.advances().begun(), 0);
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_time_is_over_is_passed_by() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let mut next = waiter(store.lock("a").wait_timeout(SECOND));
    let mut last = waiter(long_wait(&store));
    sleep(SECOND).await;
    holder.release().await.unwrap();
    settle().await;
    let error = next.assert_ready().unwrap_err();
    assert_eq!(error.kind(), LockErrorKind::TimedOut);
    assert_eq!(slow.advances().begun(), 0);
    last.assert_ready().unwrap().release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

/// A third of the claim window, or of the lifetime if that is shorter.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_soon_is_not_handed_over() {
    for (lifetime, enough) in [(60_000, 1_667), (3_000, 1_000)] {
        for is_enough in [false, true] {
            let (slow, store) = slow_store();
            slow.hand_over();
            let holder = store.lock("a").lifetime(lifetime * MS).await.unwrap();
            let mut next = waiter(long_wait(&store));
            let left = if is_enough { enough + 1 } else { enough - 1 };
            sleep((lifetime - left) * MS).await;
            holder.release().await.unwrap();
            settle().await;
            let guard = next.assert_ready().unwrap();
            assert_eq!(slow.advances().begun(), usize::from(is_enough));
            assert_eq!(slow.finishes().begun(), usize::from(!is_enough));
            assert_eq!(guard.deadline(), from_now(60 * SECOND));
            guard.release().await.unwrap();
            assert_all_given_back(&store, 0).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_advance_is_repeated_until_it_is_confirmed() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let Story {
            slow,
            store,
            holder,
            ..
        } = story().await;
        let next = waiter(long_wait(&store));
        let old = holder.deadline();
        hold(slow.advances());
        release_at_once(holder);
        let guard = handed_over(next);
        for attempt in 1..=5 {
            settle().await;
            assert_eq!(slow.advances().begun(), attempt);
            slow.advances().lose();
            sleep(SECOND + MS).await;
            assert_eq!(guard.deadline(), old);
        }
        slow.advances().let_go();
        settle().await;
        assert!(guard.deadline() > from_now(58 * SECOND));
        sleep(50 * SECOND).await;
        assert!(!guard.is_lost());
        assert_eq!(slow.advances().begun(), 6);
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

/// A hand-off while the storage does not answer keeps the advances going.
#[tokio::test(start_paused = true)]
async fn a_hand_off_after_a_lost_advance_is_confirmed() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let (next, last) = (waiter(long_wait(&store)), waiter(long_wait(&store)));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    settle().await;
    slow.advances().lose();
    settle().await;
    slow.advances().free();
    release_at_once(guard);
    let guard = handed_over(last);
    settle().await;
    assert_eq!(slow.advances().begun(), 2);
    assert_eq!(stored(&slow).await, [2]);
    assert_eq!(guard.deadline(), from_now(60 * SECOND));
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_holder_has_the_lock_until_the_old_deadline() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    let next = waiter(long_wait(&store));
    let mut stranger = waiter(long_wait(&other));
    let old = holder.deadline();
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    let mut told = probe(guard.lost());
    while from_now(Duration::ZERO) < old {
        told.assert_pending();
        stranger.assert_pending();
        if slow.advances().held() > 0 {
            slow.advances().lose();
        }
        sleep(250 * MS).await;
    }
    assert!(told.assert_ready().is_lost());
    drop(told);
    assert!(slow.advances().begun() > 20);
    assert!(guard.release().await.unwrap_err().is_lost());
    settle().await;
    stranger.assert_ready().unwrap().release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_holder_extends_its_lease() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let next = waiter(long_wait(&store));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    settle().await;
    slow.advances().lose();
    settle().await;
    slow.advances().free();
    guard.extend(600 * SECOND).await.unwrap();
    assert_eq!(guard.deadline(), from_now(600 * SECOND));
    assert_eq!(stored(&slow).await, [1]);
    assert_eq!(taken_over(&slow, &guard, 599 * SECOND).await, None);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

/// An advance that is carried out after an extension would shorten its lease.
#[tokio::test(start_paused = true)]
async fn an_extension_waits_for_an_advance_that_is_under_way() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let Story {
            slow,
            store,
            holder,
            ..
        } = story().await;
        let next = waiter(long_wait(&store));
        hold(slow.advances());
        release_at_once(holder);
        let guard = handed_over(next);
        settle().await;
        slow.advances().free();
        let mut extending = probe(guard.extend(600 * SECOND));
        let is_early = extending.poll().is_ready();
        sleep(SECOND).await;
        slow.advances().let_go();
        settle().await;
        if is_early {
            drop(extending);
        } else {
            extending.rest().await.unwrap();
        }
        assert!(guard.deadline() > from_now(590 * SECOND));
        assert_eq!(taken_over(&slow, &guard, 590 * SECOND).await, None);
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

/// The storage may have carried the advance out: from then on the lease is as
/// long as the new holder asked for.
#[tokio::test(start_paused = true)]
async fn a_lease_that_may_have_become_shorter_is_believed_to_be() {
    for lost in [false, true] {
        let (slow, store) = slow_store();
        slow.hand_over();
        let holder = store.lock("a").lifetime(600 * SECOND).await.unwrap();
        let next = waiter(long_wait(&store).lifetime(SECOND));
        slow.advances().hold_replies();
        release_at_once(holder);
        let guard = handed_over(next);
        settle().await;
        if lost {
            slow.advances().lose();
        }
        let over = taken_over(&slow, &guard, 10 * SECOND).await;
        assert!(over.is_some(), "the lease did not end");
    }
}

/// The answer to the advance of an earlier holder says nothing of a lease that
/// the holder has asked for since.
#[tokio::test(start_paused = true)]
async fn an_extension_that_may_be_done_is_not_made_longer_by_an_advance() {
    for lifetime in [200 * MS, 55 * SECOND] {
        for released in [false, true] {
            let Story {
                slow,
                store,
                mut holder,
                ..
            } = story().await;
            let mut waiters: Vec<_> = (0..3).map(|_| waiter(long_wait(&store))).collect();
            let last = waiters.pop().unwrap();
            slow.advances().hold_replies();
            for next in waiters {
                release_at_once(holder);
                holder = handed_over(next);
                settle().await;
            }
            assert_eq!(slow.advances().begun(), 1);
            let mut extending = probe(holder.extend(lifetime));
            extending.assert_pending();
            assert_eq!(stored(&slow).await, [2, 3]);
            drop(extending);
            slow.claims().hold_requests();
            slow.finishes().hold_requests();
            if released {
                drop(holder);
                settle().await;
                assert!(!last.is_woken(), "its lease is not known");
                continue;
            }
            let until = holder.deadline();
            assert!(until <= from_now(lifetime));
            slow.advances().let_go();
            assert_eq!(holder.deadline(), until);
        }
    }
}

/// Of the three leases the second one is short.
#[tokio::test(start_paused = true)]
async fn a_lease_is_no_longer_than_that_of_the_ticket_at_the_head() {
    let (slow, store) = slow_store();
    slow.hand_over();
    let holder = store.lock("a").lifetime(600 * SECOND).await.unwrap();
    let short = waiter(long_wait(&store).lifetime(10 * SECOND));
    let last = waiter(long_wait(&store).lifetime(600 * SECOND));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(short);
    settle().await;
    release_at_once(guard);
    let guard = handed_over(last);
    slow.advances().let_go();
    settle().await;
    // The storage sees the short one at the head, and no answer comes.
    slow.advances().lose();
    assert_eq!(guard.deadline(), from_now(10 * SECOND));
    // Its ticket is called in vain meanwhile.
    let began = Instant::now();
    while taken_over(&slow, &guard, SECOND).await.is_none() {
        assert!(began.elapsed() < 30 * SECOND);
        if slow.advances().held() > 0 {
            slow.advances().lose();
        }
    }
}

/// The next ticket was revoked by another client.
#[tokio::test(start_paused = true)]
async fn nobody_else_is_served_before_a_revoked_holder_lets_go() {
    for lets_go in [false, true] {
        for revoked_first in [false, true] {
            let Story {
                slow,
                store,
                other,
                holder,
            } = story().await;
            let next = waiter(long_wait(&store));
            let owner = slow.last_owner();
            let mut stranger = waiter(long_wait(&other));
            let old = holder.deadline();
            slow.advances().hold_requests();
            if revoked_first {
                assert!(revoke(&slow, owner).await.found);
            }
            release_at_once(holder);
            let guard = handed_over(next);
            settle().await;
            if !revoked_first {
                assert!(revoke(&slow, owner).await.found);
            }
            let mut told = probe(guard.lost());
            told.assert_pending();
            slow.advances().let_go();
            settle().await;
            assert!(told.is_woken());
            assert!(told.assert_ready().is_lost());
            drop(told);
            assert!(guard.is_lost());
            assert_eq!(stored(&slow).await, [0, 2]);
            sleep(20 * SECOND).await;
            stranger.assert_pending();
            if lets_go {
                assert!(guard.release().await.unwrap_err().is_lost());
                settle().await;
            } else {
                sleep((old - from_now(Duration::ZERO)).saturating_sub(MS)).await;
                settle().await;
                stranger.assert_pending();
                sleep(10 * MS).await;
                settle().await;
            }
            assert_eq!(slow.advances().begun(), 1);
            stranger.assert_ready().unwrap().release().await.unwrap();
            assert_all_given_back(&store, 0).await;
        }
    }
}

/// The ticket of the holder before was revoked, which had let go.
#[tokio::test(start_paused = true)]
async fn a_finished_ticket_may_be_revoked() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    let first = slow.last_owner();
    let next = waiter(long_wait(&store));
    let mut stranger = waiter(long_wait(&other));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    settle().await;
    assert!(revoke(&slow, first).await.found);
    settle().await;
    slow.advances().let_go();
    settle().await;
    assert_eq!(guard.deadline(), from_now(60 * SECOND));
    assert_eq!(stored(&slow).await, [1, 2]);
    stranger.assert_pending();
    guard.release().await.unwrap();
    settle().await;
    stranger.assert_ready().unwrap().release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_handed_over_lease_is_kept_alive() {
    for lost in [0, 3] {
        let Story {
            slow,
            store,
            holder,
            ..
        } = story().await;
        let next = waiter(long_wait(&store).lifetime(6 * SECOND).keep_alive(true));
        slow.advances().hold_requests();
        release_at_once(holder);
        let guard = handed_over(next);
        settle().await;
        for _ in 0..lost {
            slow.advances().lose();
            sleep(SECOND).await;
        }
        slow.advances().free();
        slow.advances().let_go();
        assert_eq!(taken_over(&slow, &guard, 100 * SECOND).await, None);
        assert!(!guard.is_lost());
        assert_eq!(slow.advances().begun(), lost + 1);
        assert!(slow.claims().begun() > 10);
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_advance() {
    let Story {
        slow,
        store,
        holder,
        ..
    } = story().await;
    let next = waiter(long_wait(&store));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    let mut closing = probe(store.close());
    closing.assert_pending();
    settle().await;
    closing.assert_pending();
    slow.advances().let_go();
    settle().await;
    closing.assert_ready().unwrap();
    assert_eq!(stored(&slow).await, [1]);
    guard.release().await.unwrap();
    assert!(stored(&slow).await.is_empty());
}

/// A ticket that is asked for meanwhile gets the number behind the others.
#[tokio::test(start_paused = true)]
async fn tickets_that_are_issued_during_a_hand_over_are_in_order() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    let next = waiter(long_wait(&store));
    slow.advances().hold_requests();
    release_at_once(holder);
    let guard = handed_over(next);
    for store in [&store, &other] {
        assert!(store.try_lock("a").await.unwrap().is_none());
    }
    let place = store.take_ticket("a").await.unwrap();
    assert_eq!(place.ticket_number(), 2);
    assert_eq!(place.position().await.unwrap(), 2);
    let strange = other.take_ticket("a").await.unwrap();
    assert_eq!(strange.ticket_number(), 3);
    release_at_once(guard);
    assert_eq!(place.position().await.unwrap(), 0);
    let guard = place.wait().await.unwrap();
    settle().await;
    assert_eq!(slow.advances().begun(), 1);
    slow.advances().free();
    slow.advances().let_go();
    settle().await;
    assert_eq!(stored(&slow).await, [2, 3]);
    guard.release().await.unwrap();
    assert_eq!(strange.wait().await.unwrap().ticket_number(), 3);
    settle().await;
    let again = timeout(SECOND, store.lock("a")).await.unwrap().unwrap();
    assert_eq!(again.ticket_number(), 0);
    again.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

/// The lock was deleted while the storage still had to be told. What the lost
/// holder gives back then is of a queue that is no more.
#[tokio::test(start_paused = true)]
async fn a_late_finish_removes_no_ticket_of_a_later_queue() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    let next = waiter(long_wait(&store));
    slow.advances().hold_requests();
    release_at_once(holder);
    let late = handed_over(next);
    assert!(other.delete_lock("a").await.unwrap());
    assert!(late.is_lost());
    let guard = store.lock("a").await.unwrap();
    let mut stranger = waiter(long_wait(&other));
    assert!(late.release().await.unwrap_err().is_lost());
    settle().await;
    assert_eq!(stored(&slow).await, [0, 1]);
    stranger.assert_pending();
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    settle().await;
    stranger.assert_ready().unwrap().release().await.unwrap();
    slow.advances().let_go();
    assert_all_given_back(&store, 0).await;
}

/// The lock was deleted, and its holder is not told yet. The next number in its
/// own queue may be another ticket by now.
#[tokio::test(start_paused = true)]
async fn a_lock_is_not_handed_over_to_a_ticket_of_a_later_queue() {
    let Story {
        slow,
        store,
        other,
        holder,
    } = story().await;
    slow.pushes().withhold();
    assert!(other.delete_lock("a").await.unwrap());
    let guard = other.lock("a").await.unwrap();
    let mut next = waiter(long_wait(&store));
    assert!(holder.release().await.is_err());
    next.assert_pending();
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    slow.pushes().deliver();
    settle().await;
    next.assert_ready().unwrap().release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}
