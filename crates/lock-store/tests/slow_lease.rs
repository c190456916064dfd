//! A storage that takes its time to extend and to take back: what a holder
//! believes of its lease, and what is a loss.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;

use lock_store::{FencingToken, LockStore, TicketLock, Timestamp};
use support::probe::probe;
use support::slow::Gate;
use support::slow_story::*;
use tokio::time::{Instant, sleep, timeout};

// A lease as its holder believes it to be, and as it is.

#[tokio::test(start_paused = true)]
async fn a_lease_that_may_have_become_shorter_is_believed_to_be() {
    for lost in [false, true] {
        let (slow, store) = slow_store();
        let began = Instant::now();
        let guard = store.lock("a").lifetime(60 * SECOND).await.unwrap();
        let mut told = probe(guard.lost());
        told.assert_pending();
        slow.claims().hold_replies();
        let mut extending = probe(guard.extend(200 * MS));
        extending.assert_pending();
        assert_eq!(guard.deadline(), (began + 200 * MS).into_std());
        if lost {
            slow.claims().lose();
            assert!(extending.assert_ready().unwrap_err().is_unavailable());
        }
        drop(extending);
        let over = taken_over(&slow, &guard, SECOND).await.unwrap();
        assert!(over <= 210 * MS);
        assert!(told.is_woken());
        assert!(told.assert_ready().is_lost());
    }
}

/// What is not known to be longer is not believed to be.
#[tokio::test(start_paused = true)]
async fn a_lease_that_may_have_become_longer_is_not_believed_to_be() {
    let (slow, store) = slow_store();
    let guard = store.lock("a").lifetime(10 * SECOND).await.unwrap();
    let until = guard.deadline();
    slow.claims().hold_replies();
    let mut extending = probe(guard.extend(60 * SECOND));
    extending.assert_pending();
    assert_eq!(guard.deadline(), until);
    let sent = Instant::now();
    sleep(5 * SECOND).await;
    slow.claims().let_go();
    extending.assert_ready().unwrap();
    drop(extending);
    assert_eq!(guard.deadline(), (sent + 60 * SECOND).into_std());
}

#[tokio::test(start_paused = true)]
async fn an_extension_waits_for_a_renewal_that_is_under_way() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let (slow, store) = slow_store();
        let guard = store.lock("a").lifetime(SECOND).keep_alive(true);
        let guard = guard.await.unwrap();
        hold(slow.claims());
        sleep(400 * MS).await;
        assert_eq!(slow.claims().held(), 1);
        slow.claims().free();
        let mut extending = probe(guard.extend(60 * SECOND));
        extending.assert_pending();
        assert_eq!(slow.claims().begun(), 1);
        sleep(100 * MS).await;
        slow.claims().let_go();
        settle().await;
        extending.assert_ready().unwrap();
        drop(extending);
        let now = Instant::now().into_std();
        assert!(guard.deadline() > now + 59 * SECOND && guard.deadline() <= now + 60 * SECOND);
        assert_eq!(taken_over(&slow, &guard, 100 * SECOND).await, None);
    }
}

/// A renewal whose time comes while an extension is under way says nothing
/// that the extension does not say: it must not make the lease shorter again.
#[tokio::test(start_paused = true)]
async fn a_renewal_does_not_undo_an_extension_that_is_under_way() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let (slow, store) = slow_store();
        let guard = store.lock("a").lifetime(SECOND).keep_alive(true);
        let guard = guard.await.unwrap();
        sleep(150 * MS).await;
        hold(slow.claims());
        let mut extending = probe(guard.extend(60 * SECOND));
        extending.assert_pending();
        slow.claims().free();
        sleep(300 * MS).await;
        slow.claims().let_go();
        extending.assert_ready().unwrap();
        drop(extending);
        assert_eq!(taken_over(&slow, &guard, 100 * SECOND).await, None);
        assert!(!guard.is_lost());
    }
}

/// The same when nobody waits for the extension any more: the lease is kept
/// alive all the same, if it is long enough for that.
#[tokio::test(start_paused = true)]
async fn an_extension_that_is_dropped_does_not_end_the_renewals() {
    let (slow, store) = slow_store();
    let guard = store.lock("a").lifetime(SECOND).keep_alive(true);
    let guard = guard.await.unwrap();
    sleep(150 * MS).await;
    slow.claims().hold_replies();
    let mut extending = probe(guard.extend(SECOND));
    extending.assert_pending();
    slow.claims().free();
    sleep(300 * MS).await;
    drop(extending);
    assert_eq!(taken_over(&slow, &guard, 100 * SECOND).await, None);
    assert!(!guard.is_lost());
}

// Releasing.

#[tokio::test(start_paused = true)]
async fn a_release_in_time_is_one_however_late_its_reply() {
    let (slow, store) = slow_store();
    let guard = store.lock("a").lifetime(SECOND).await.unwrap();
    sleep(900 * MS).await;
    slow.finishes().hold_replies();
    let mut releasing = probe(guard.release());
    releasing.assert_pending();
    sleep(10 * SECOND).await;
    slow.finishes().let_go();
    releasing.assert_ready().unwrap();
    assert_all_given_back(&store, 0).await;
}

/// A storage that asked twice cannot know whether the ticket was there the
/// first time: then the deadline decides.
#[tokio::test(start_paused = true)]
async fn a_release_in_doubt_is_one_until_the_deadline() {
    for late in [false, true] {
        let (slow, store) = slow_store();
        let guard = store.lock("a").lifetime(SECOND).await.unwrap();
        slow.be_in_doubt();
        slow.finishes().hold_replies();
        let mut releasing = probe(guard.release());
        releasing.assert_pending();
        sleep(if late { SECOND } else { 999 * MS }).await;
        slow.finishes().let_go();
        let released = releasing.assert_ready();
        assert_eq!(released.is_err_and(|error| error.is_lost()), late);
    }
}

/// What is counted as lost; it is what is warned of, too.
#[cfg(feature = "metrics")]
mod losses {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::support::scenario::on_a_paused_clock;
    use super::*;

    fn counted(scenario: impl Future<Output = ()>) -> u64 {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || on_a_paused_clock(scenario));
        let lost = |(key, _, _, value): (metrics_util::CompositeKey, _, _, _)| match value {
            DebugValue::Counter(count) if key.key().name() == "lock_store_lost_total" => count,
            _ => 0,
        };
        snapshotter
            .snapshot()
            .into_vec()
            .into_iter()
            .map(lost)
            .sum()
    }

    #[test]
    fn a_release_that_is_dropped_is_none() {
        for hold in [Gate::hold_requests, Gate::hold_replies] {
            let lost = counted(async {
                let (slow, store) = slow_store();
                let guard = store.lock("a").keep_alive(true).await.unwrap();
                hold(slow.finishes());
                let mut releasing = probe(guard.release());
                releasing.assert_pending();
                drop(releasing);
                settle().await;
                slow.finishes().let_go();
                assert_all_given_back(&store, 0).await;
            });
            assert_eq!(lost, 0);
        }
    }

    #[test]
    fn a_renewal_that_is_answered_during_the_release_is_none() {
        for hold in [Gate::hold_requests, Gate::hold_replies] {
            for answer in [Gate::let_go, Gate::lose] {
                let lost = counted(async {
                    let (slow, store) = slow_store();
                    let guard = store.lock("a").lifetime(SECOND).keep_alive(true);
                    let guard = guard.await.unwrap();
                    hold(slow.claims());
                    sleep(400 * MS).await;
                    assert_eq!(slow.claims().held(), 1);
                    slow.finishes().hold_replies();
                    let mut releasing = probe(guard.release());
                    releasing.assert_pending();
                    answer(slow.claims());
                    sleep(300 * MS).await;
                    slow.finishes().let_go();
                    releasing.assert_ready().unwrap();
                    sleep(10 * SECOND).await;
                    assert_eq!(slow.claims().begun(), 1);
                    assert_all_given_back(&store, 0).await;
                });
                assert_eq!(lost, 0);
            }
        }
    }

    /// The count does count.
    #[test]
    fn a_lock_that_is_deleted_is_one() {
        for released in [false, true] {
            let lost = counted(async {
                let (slow, store) = slow_store();
                let guard = store.lock("a").await.unwrap();
                slow.pushes().lose();
                store.delete_lock("a").await.unwrap();
                if released {
                    guard.release().await.unwrap_err();
                } else {
                    drop(guard);
                }
                assert_all_given_back(&store, 0).await;
            });
            assert_eq!(lost, 1);
        }
    }
}

// A storage that was set back.

/// Puts somebody else before everybody: what a storage does that is restored
/// from a copy.
async fn set_back(store: &LockStore) {
    let now = store.get_lock("a").await.unwrap().unwrap();
    let mut before = store.create_lock("a").unwrap();
    before.issue_ticket(3600 * SECOND, Timestamp::now());
    let mut all: VecDeque<_> = before.tickets().cloned().collect();
    for ticket in now.tickets() {
        let mut ticket = ticket.clone();
        ticket.number += 1;
        all.push_back(ticket);
    }
    all[0].fencing_token = FencingToken::new(1);
    let lock = TicketLock::resumed(id(), all, now.last_token());
    store.save_lock(&lock).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_holder_whom_the_storage_has_wait_has_lost() {
    let (_slow, store) = slow_store();
    let guard = store.lock("a").await.unwrap();
    set_back(&store).await;
    sleep(SECOND).await;
    assert!(guard.extend(5 * SECOND).await.unwrap_err().is_lost());
    assert!(guard.is_lost());

    let (_slow, store) = slow_store();
    let guard = store.lock("a").keep_alive(true).await.unwrap();
    set_back(&store).await;
    let began = Instant::now();
    assert!(guard.lost().await.is_lost());
    assert!(began.elapsed() <= 20 * SECOND);
}

/// But not by an answer from before its turn came.
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_turn_is_no_loss() {
    let (slow, store) = slow_store();
    let holder = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    slow.claims().hold_replies();
    let mut asking = probe(place.position());
    asking.assert_pending();
    slow.claims().free();
    sleep(MS).await;
    holder.release().await.unwrap();
    settle().await;
    slow.claims().let_go();
    asking.assert_ready().unwrap();
    drop(asking);
    let guard = place.wait().await.unwrap();
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

// Fencing tokens.

#[tokio::test(start_paused = true)]
async fn tokens_rise_over_a_lock_that_is_saved_empty() {
    let store = LockStore::in_memory();
    // On a clock that stands, a token comes from the one before.
    store.lock("a").await.unwrap().release().await.unwrap();
    let before = store.lock("a").await.unwrap();
    let empty = store.create_lock("a").unwrap();
    store.save_lock(&empty).await.unwrap();
    let after = store.lock("a").await.unwrap();
    assert!(after.fencing_token() > before.fencing_token());

    // The same over one that is saved with a ticket.
    let mut lock = store.create_lock("a").unwrap();
    lock.issue_ticket(SECOND, Timestamp::from_micros(1));
    store.save_lock(&lock).await.unwrap();
    let last = store.lock("a").await.unwrap();
    assert!(last.fencing_token() > after.fencing_token());
}

/// Whoever watches a lease keeps it alive in a runtime of their own.
#[test]
fn renewals_go_on_although_the_runtime_of_the_timers_is_gone() {
    let (_slow, store) = slow_store();
    let (first, second) = (runtime(), runtime());
    let other = store.lock("b").keep_alive(true);
    let other = first.block_on(async { other.await.unwrap() });
    let working = store.clone();
    let working = second.spawn(async move {
        let request = working.lock("a").lifetime(SECOND).keep_alive(true);
        request.run(async |_| sleep(10 * SECOND).await).await
    });
    second.block_on(settle());
    drop(first);
    let ended = second.block_on(async { timeout(30 * SECOND, working).await });
    ended.unwrap().unwrap().unwrap();
    drop(other);
}

/// A lease that may have become shorter is renewed while it still runs.
#[tokio::test(start_paused = true)]
async fn an_extension_that_is_dropped_does_not_end_a_longer_lease() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        let (slow, store) = slow_store();
        let guard = store.lock("a").lifetime(60 * SECOND).keep_alive(true);
        let guard = guard.await.unwrap();
        hold(slow.claims());
        let mut extending = probe(guard.extend(5 * SECOND));
        extending.assert_pending();
        slow.claims().free();
        drop(extending);
        assert_eq!(taken_over(&slow, &guard, 100 * SECOND).await, None);
        assert!(!guard.is_lost());
    }
}
