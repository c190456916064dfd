//! Many tasks on many threads, all at once: nobody overlaps, nothing is left.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use lock_store::{InMemoryLockStore, LockStore, Timing};
use tokio::task::{JoinSet, yield_now};

#[derive(Default)]
struct Conversation {
    holders: AtomicUsize,
    highest_token: AtomicU64,
    handled: AtomicUsize,
}

/// Four stores on one memory, as four processes would be on one server; some
/// acquisitions are cancelled, some time out, some only try.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_overlaps_and_nothing_is_left() {
    let memory = Arc::new(InMemoryLockStore::new());
    let timing = Timing {
        wait_timeout: Some(Duration::from_secs(60)),
        ..Timing::default()
    };
    let conversations: Arc<Vec<Conversation>> =
        Arc::new((0..7).map(|_| Conversation::default()).collect());
    let mut tasks = JoinSet::new();
    for client in 0..4 {
        let store = LockStore::with_timing(memory.clone(), timing.clone()).unwrap();
        for task in 0..16 {
            let (store, conversations) = (store.clone(), conversations.clone());
            tasks.spawn(async move {
                for round in 0..200_usize {
                    let which = (client + task * 3 + round * 5) % conversations.len();
                    let (id, conversation) = (which.to_string(), &conversations[which]);
                    let guard = match (task + round) % 11 {
                        0 => store.try_lock(&id).await.unwrap(),
                        1 => {
                            let impatient = store.lock(&id).wait_timeout(Duration::from_micros(50));
                            impatient.await.ok()
                        }
                        2 => {
                            let dropped = store.lock(&id).into_future();
                            tokio::time::timeout(Duration::from_micros(20), dropped)
                                .await
                                .ok()
                                .map(Result::unwrap)
                        }
                        3 => {
                            drop(store.take_ticket(&id).await.unwrap());
                            None
                        }
                        4 => Some(store.lock(&id).keep_alive(true).await.unwrap()),
                        _ => Some(store.lock(&id).await.unwrap()),
                    };
                    let Some(guard) = guard else { continue };
                    let before = conversation.holders.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(before, 0, "two hold conversation {id}");
                    let token = guard.fencing_token().get();
                    let highest = conversation.highest_token.swap(token, Ordering::SeqCst);
                    assert!(highest < token, "{highest} is followed by {token}");
                    if round % 3 == 0 {
                        yield_now().await;
                    }
                    conversation.handled.fetch_add(1, Ordering::SeqCst);
                    conversation.holders.fetch_sub(1, Ordering::SeqCst);
                    match round % 2 {
                        0 => guard.release().await.unwrap(),
                        _ => drop(guard),
                    }
                }
            });
        }
    }
    tasks.join_all().await;
    let handled: usize = conversations
        .iter()
        .map(|c| c.handled.load(Ordering::SeqCst))
        .sum();
    assert!(handled > 4 * 16 * 200 / 2, "only {handled} were handled");
    assert!(memory.is_empty(), "{memory:?} should be empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_tickets_is_the_order_of_service() {
    let store = LockStore::in_memory();
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for i in 0..2_000 {
        let place = store.take_ticket("a").await.unwrap();
        let sender = sender.clone();
        tasks.spawn(async move {
            let guard = place.wait().await.unwrap();
            sender.send(i).unwrap();
            guard.release().await.unwrap();
        });
    }
    drop(sender);
    for expected in 0..2_000 {
        assert_eq!(served.recv().await, Some(expected));
    }
    tasks.join_all().await;
    store.close().await.unwrap();
    let left: Vec<_> = store.conversations().try_collect().await.unwrap();
    assert!(left.is_empty());
}

/// Whoever asks for a ticket while its runtime is shutting down, as a task that
/// is dropped may: what it starts is dropped there and then.
#[test]
fn a_runtime_that_shuts_down_may_still_be_asked() {
    struct Asks(LockStore);
    impl Drop for Asks {
        fn drop(&mut self) {
            let ticket = self.0.take_ticket("a").into_future();
            let place = ticket.now_or_never().unwrap().unwrap();
            let waits = place.wait().now_or_never();
            assert!(waits.is_none(), "somebody else is served");
        }
    }
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let store = LockStore::in_memory();
        let held = store.lock("a").into_future().now_or_never();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let asks = Asks(store.clone());
        runtime.spawn(async move {
            let _asks = asks;
            std::future::pending::<()>().await;
        });
        drop(runtime);
        drop(held);
        done.send(store.get_lock("a").now_or_never().unwrap().unwrap())
    });
    let left = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(left.expect("it hangs"), None);
}
