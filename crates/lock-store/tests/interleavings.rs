//! The store in memory under shuttle: lock, wake-up, cancel and release in
//! every order that its scheduler can think of.
//!
//!     RUSTFLAGS="--cfg shuttle" cargo test -p lock-store --test interleavings \
//!         --target-dir target/shuttle --release

#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use lock_store::{InMemoryLockStore, LockStore};
use shuttle::future::{block_on, spawn};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ITERATIONS: usize = 20_000;

#[derive(Default)]
struct Conversation {
    busy: AtomicBool,
    highest_token: AtomicU64,
    served: AtomicU64,
}

impl Conversation {
    async fn handle(&self, guard: lock_store::LockGuard, drops: bool) {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "two hold it");
        let token = guard.fencing_token().get();
        let before = self.highest_token.swap(token, Ordering::SeqCst);
        assert!(before < token, "{before} is followed by {token}");
        shuttle::future::yield_now().await;
        self.served.fetch_add(1, Ordering::SeqCst);
        self.busy.store(false, Ordering::SeqCst);
        if drops {
            drop(guard);
        } else {
            guard.release().await.unwrap();
        }
    }
}

/// Polls once; a future that is not ready then is dropped.
async fn at_once<T>(future: impl IntoFuture<Output = T>) -> Option<T> {
    let mut future = pin!(future.into_future());
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Polls, lets others go on, polls again; then drops it.
async fn twice<T>(future: impl IntoFuture<Output = T>) -> Option<T> {
    let mut future = pin!(future.into_future());
    for _ in 0..2 {
        if let Some(value) = at_once(future.as_mut()).await {
            return Some(value);
        }
        shuttle::future::yield_now().await;
    }
    None
}

fn explore(scenario: fn()) {
    shuttle::check_random(scenario, ITERATIONS);
    shuttle::check_pct(scenario, ITERATIONS, 3);
}

#[test]
fn every_waiter_is_served() {
    explore(|| {
        let memory = Arc::new(InMemoryLockStore::new());
        let conversation = Arc::new(Conversation::default());
        let tasks: Vec<_> = (0..4)
            .map(|i| {
                let (memory, conversation) = (memory.clone(), conversation.clone());
                // Two clients of two tasks each would hide nothing: each task
                // is a client of its own here.
                spawn(async move {
                    let store = LockStore::new(memory);
                    for round in 0..2 {
                        let guard = store.lock("a").await.unwrap();
                        conversation.handle(guard, (i + round) % 2 == 0).await;
                    }
                })
            })
            .collect();
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(conversation.served.load(Ordering::SeqCst), 8);
        assert!(memory.is_empty());
    });
}

#[test]
fn cancelled_waiters_pass_the_turn_on() {
    explore(|| {
        let memory = Arc::new(InMemoryLockStore::new());
        let store = LockStore::new(memory.clone());
        let conversation = Arc::new(Conversation::default());
        let tasks: Vec<_> = (0..5)
            .map(|i| {
                let (store, conversation) = (store.clone(), conversation.clone());
                spawn(async move {
                    let guard = match i {
                        0 => at_once(store.lock("a")).await.transpose().unwrap(),
                        1 => twice(store.lock("a")).await.transpose().unwrap(),
                        2 => {
                            let place = store.take_ticket("a").await.unwrap();
                            shuttle::future::yield_now().await;
                            drop(place);
                            store.try_lock("a").await.unwrap()
                        }
                        _ => Some(store.lock("a").await.unwrap()),
                    };
                    if let Some(guard) = guard {
                        conversation.handle(guard, i % 2 == 0).await;
                    }
                })
            })
            .collect();
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(conversation.served.load(Ordering::SeqCst) >= 2);
        assert!(memory.is_empty(), "{memory:?}");
    });
}

/// Several tasks of one store hand over to each other, and a second store waits
/// among them. Some give up before their turn, some in it.
#[test]
fn hand_overs_and_cancellations_never_meet() {
    explore(|| {
        let memory = Arc::new(InMemoryLockStore::new());
        let stores = [0, 1].map(|_| LockStore::new(memory.clone()));
        let conversation = Arc::new(Conversation::default());
        let holder = block_on(stores[0].lock("a").into_future()).unwrap();
        let places: Vec<_> = [0, 0, 0, 1, 0, 0]
            .into_iter()
            .zip(1..)
            .map(|(of, number)| {
                let place = block_on(stores[of].take_ticket("a").into_future()).unwrap();
                assert_eq!(place.ticket_number(), number);
                place
            })
            .collect();
        let tasks: Vec<_> = places
            .into_iter()
            .enumerate()
            .map(|(i, place)| {
                let conversation = conversation.clone();
                spawn(async move {
                    match i {
                        1 => drop(place),
                        4 => {
                            if let Some(guard) = twice(place.wait()).await {
                                conversation.handle(guard.unwrap(), true).await;
                            }
                        }
                        _ => {
                            let guard = place.wait().await.unwrap();
                            conversation.handle(guard, i % 2 == 0).await;
                        }
                    }
                })
            })
            .collect();
        block_on(async {
            conversation.handle(holder, false).await;
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(conversation.served.load(Ordering::SeqCst) >= 5);
        assert!(memory.is_empty(), "{memory:?}");
    });
}

#[test]
fn tickets_are_served_in_order() {
    explore(|| {
        let store = LockStore::in_memory();
        let order = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let place = block_on(store.take_ticket("a").into_future()).unwrap();
                let order = order.clone();
                spawn(async move {
                    let guard = place.wait().await.unwrap();
                    assert_eq!(order.fetch_add(1, Ordering::SeqCst), number);
                    guard.release().await.unwrap();
                })
            })
            .collect();
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn a_deleted_lock_ends_everybody() {
    explore(|| {
        let memory = Arc::new(InMemoryLockStore::new());
        let store = LockStore::new(memory.clone());
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                spawn(async move {
                    // Served, or gone: never stuck.
                    if let Ok(guard) = store.lock("a").await {
                        shuttle::future::yield_now().await;
                        drop(guard.release().await);
                    }
                })
            })
            .collect();
        let deleting = spawn(async move { store.delete_lock("a").await.unwrap() });
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
            deleting.await.unwrap();
        });
        assert!(memory.is_empty());
    });
}
