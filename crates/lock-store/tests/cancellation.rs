//! A future may be dropped at any point: its ticket leaves the queue, and the
//! next in line is served. Polled by hand, at every point where it waits.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_store::{LockStore, Timing};
use support::probe::{Probe, probe};
use support::table::Table;
use support::{tickets, two_stores};
use tokio::task::yield_now;

/// Lets everything run that can run.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_no_ticket_before_it_is_polled() {
    let store = LockStore::in_memory();
    let request = store.lock("a");
    assert_eq!(tickets(&store, "a").await, 0);
    drop(request);
    drop(probe(store.lock("a")));
    assert_eq!(tickets(&store, "a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn in_memory_an_uncontended_lock_is_had_in_one_poll() {
    let store = LockStore::in_memory();
    let guard = probe(store.lock("a")).assert_ready().unwrap();
    probe(guard.release()).assert_ready().unwrap();
    assert_eq!(tickets(&store, "a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_next_waiter_is_woken() {
    let store = LockStore::in_memory();
    let holder = store.lock("a").await.unwrap();
    let mut first = probe(store.lock("a"));
    let mut second = probe(store.lock("a"));
    first.assert_pending();
    second.assert_pending();
    holder.release().await.unwrap();
    assert!(first.is_woken());
    assert!(!second.is_woken());
    let guard = first.assert_ready().unwrap();
    second.assert_pending();
    drop(guard);
    assert!(second.is_woken());
    drop(second.assert_ready().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_woken_and_never_polled_hands_on() {
    let store = LockStore::in_memory();
    let holder = store.lock("a").await.unwrap();
    let mut woken = probe(store.lock("a"));
    let mut next = probe(store.lock("a"));
    woken.assert_pending();
    next.assert_pending();
    holder.release().await.unwrap();
    assert!(woken.is_woken());
    drop(woken);
    assert!(next.is_woken());
    assert_eq!(next.assert_ready().unwrap().ticket_number(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_in_the_middle_leaves_no_gap() {
    let store = LockStore::in_memory();
    let holder = store.lock("a").await.unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| probe(store.lock("a"))).collect();
    waiters.iter_mut().for_each(Probe::assert_pending);
    drop(waiters.remove(1));
    assert_eq!(tickets(&store, "a").await, 3);
    drop(holder);
    drop(waiters.remove(0).assert_ready().unwrap());
    drop(waiters.remove(0).assert_ready().unwrap());
    assert_eq!(tickets(&store, "a").await, 0);
}

/// Over a storage that answers late, an acquisition is dropped after each
/// number of polls: between sending a step and its reply, too.
#[tokio::test(start_paused = true)]
async fn an_acquisition_may_be_dropped_after_any_poll() {
    for contended in [false, true] {
        let mut finished = 0;
        for polls in 0..30 {
            let store = LockStore::new(Table::default());
            let mut holder = None;
            if contended {
                holder = Some(store.lock("a").await.unwrap());
            }
            let mut acquiring = probe(store.lock("a"));
            let mut done = false;
            for poll in 0..polls {
                if poll == 6 {
                    drop(store.clone());
                }
                if acquiring.poll().is_ready() {
                    done = true;
                    break;
                }
                yield_now().await;
            }
            drop(acquiring);
            finished += usize::from(done);
            settle().await;
            let held = usize::from(contended);
            assert_eq!(
                tickets(&store, "a").await,
                held,
                "dropped after {polls} polls"
            );
            drop(holder);
            store.close().await.unwrap();
            assert_eq!(tickets(&store, "a").await, 0);
        }
        assert_eq!(finished > 0, !contended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_may_be_dropped_after_any_poll() {
    let mut served = 0;
    for polls in 0..30 {
        let store = LockStore::new(Table::default());
        let holder = store.lock("a").await.unwrap();
        let mut waiting = probe(store.lock("a"));
        for _ in 0..10 {
            waiting.assert_pending();
            yield_now().await;
        }
        let mut releasing = probe(holder.release());
        for _ in 0..polls {
            if releasing.poll().is_ready() {
                break;
            }
            yield_now().await;
        }
        for _ in 0..polls {
            if waiting.poll().is_ready() {
                served += 1;
                break;
            }
            yield_now().await;
        }
        drop(waiting);
        drop(releasing);
        let next = store.lock("a").wait_timeout(Duration::from_secs(10)).await;
        next.unwrap().release().await.unwrap();
        settle().await;
        assert_eq!(tickets(&store, "a").await, 0, "dropped after {polls} polls");
    }
    assert!(served > 0);
}

#[tokio::test(start_paused = true)]
async fn other_futures_may_be_dropped_after_any_poll() {
    for polls in 0..6 {
        let store = LockStore::new(Table::default());
        let guard = store.lock("a").await.unwrap();
        let place = store.take_ticket("a").await.unwrap();
        macro_rules! poll_and_drop {
            ($future:expr) => {
                let mut future = probe($future);
                for _ in 0..polls {
                    if future.poll().is_ready() {
                        break;
                    }
                    yield_now().await;
                }
                drop(future);
            };
        }
        poll_and_drop!(guard.extend(Duration::from_secs(90)));
        poll_and_drop!(guard.lost());
        poll_and_drop!(place.position());
        poll_and_drop!(store.try_lock("a"));
        poll_and_drop!(store.take_ticket("a"));
        poll_and_drop!(store.run("a", async |_| ()));
        settle().await;
        assert_eq!(tickets(&store, "a").await, 2);
        assert!(!guard.is_lost());
        guard.release().await.unwrap();
        assert_eq!(place.wait().await.unwrap().ticket_number(), 1);
    }
}

/// The reply to the issue was lost, so the caller gets an error: but its
/// ticket was made, and must not stay.
#[tokio::test(start_paused = true)]
async fn a_ticket_whose_reply_was_lost_leaves() {
    let table = Table::default();
    let store = LockStore::new(table.clone());
    table.faults().lost_issue_replies.store(1, Ordering::SeqCst);
    let error = store.lock("a").await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.conversation_id().unwrap().as_str(), "a");
    store.close().await.unwrap();
    assert!(table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_is_tried_again() {
    let table = Table::default();
    let store = LockStore::new(table.clone());
    let guard = store.lock("a").await.unwrap();
    table.faults().failed_finishes.store(1, Ordering::SeqCst);
    assert!(guard.release().await.unwrap_err().is_unavailable());
    store.close().await.unwrap();
    assert!(table.is_empty());
}

#[test]
fn guards_may_be_dropped_outside_of_any_runtime() {
    let table = Table::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = LockStore::new(table.clone());
    let guard = runtime.block_on(async { store.lock("a").await.unwrap() });
    drop(guard);
    runtime.block_on(async { store.close().await.unwrap() });
    assert!(table.is_empty());

    // In memory no runtime is needed at all, unless somebody waits.
    let store = LockStore::in_memory();
    let guard = probe(store.lock("a")).assert_ready().unwrap();
    assert!(probe(store.try_lock("a")).assert_ready().unwrap().is_none());
    drop(guard);
    assert!(probe(store.try_lock("a")).assert_ready().unwrap().is_some());
}

#[test]
fn a_store_outlives_the_runtime_of_its_first_use() {
    let store = LockStore::in_memory();
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let holder = store.lock("a").await.unwrap();
            let error = store.lock("a").wait_timeout(Duration::from_secs(1)).await;
            assert!(error.unwrap_err().is_timed_out());
            holder.release().await.unwrap();
        });
    }
}

/// What a service does: hand requests to tasks.
#[tokio::test]
async fn everything_can_be_spawned() {
    let (one, other) = two_stores(&Timing::default());
    let mut tasks = tokio::task::JoinSet::new();
    for store in [one, other] {
        let id = String::from("a");
        tasks.spawn(async move {
            store
                .run(&id, async |guard| guard.ticket_number())
                .await
                .unwrap();
            let guard = store.lock(&id).keep_alive(true).await.unwrap();
            tokio::select! {
                _ = guard.lost() => {}
                () = yield_now() => {}
            }
            guard.extend(Duration::from_secs(3)).await.unwrap();
            guard.release().await.unwrap();
            let place = store.take_ticket(&id).await.unwrap();
            place.position().await.unwrap();
            drop(place.wait().await.unwrap());
            drop(store.try_lock(&id).await.unwrap());
        });
    }
    tasks.join_all().await;
}
