//! A store is used in several runtimes, and one of them ends.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{
    InMemoryLockStore, LockError, LockErrorKind, LockGuard, LockStore, Place, Timing,
};
use redis_fixture::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use support::redis::{aside, at, holds_within, keys, nothing_left_at, store};
use support::tickets;

const ROUNDS: usize = 30;

/// Enough for a hand-off on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// What must not pass before something is done.
const LONG: Duration = Duration::from_secs(120);

fn timing() -> Timing {
    Timing {
        lock_lifetime: LONG,
        claim_window: LONG,
        ..Timing::default()
    }
}

fn single_threaded() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_threaded() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

const RUNTIMES: [fn() -> Runtime; 2] = [single_threaded, multi_threaded];

/// Does the work in a runtime of its own, which ends right after.
fn in_a_short_runtime<T: Send + 'static>(
    runtime: fn() -> Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || runtime().block_on(work));
    aside(|| thread.join()).unwrap()
}

async fn is_served(place: Place) -> LockGuard {
    let Ok(served) = timeout(SOON, place.wait()).await else {
        panic!("the waiter is not served");
    };
    served.unwrap()
}

/// What a waiter is told soon.
async fn told<T>(waiting: JoinHandle<T>) -> T {
    let Ok(told) = timeout(SOON, waiting).await else {
        panic!("the waiter is told nothing");
    };
    told.unwrap()
}

/// A guard is released in a runtime that ends, and a waiter in this runtime is
/// served.
async fn releases(one: &LockStore, other: &LockStore) {
    for round in 0..ROUNDS {
        let guard = one.lock("a").await.unwrap();
        let place = other.take_ticket("a").await.unwrap();
        let runtime = RUNTIMES[round % RUNTIMES.len()];
        in_a_short_runtime(runtime, guard.release()).unwrap();
        is_served(place).await.release().await.unwrap();
    }
}

async fn redis() -> (Server, LockStore) {
    let server = aside(Server::start);
    let store = store(&at(&server.url()), timing()).await;
    (server, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_serves_a_waiter_of_the_same_store() {
    let (server, store) = redis().await;
    releases(&store, &store).await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_serves_a_waiter_of_another_store() {
    let (server, one) = redis().await;
    let other = store(&at(&server.url()), timing()).await;
    releases(&one, &other).await;
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_serves_a_waiter_in_memory() {
    let store = LockStore::with_timing(InMemoryLockStore::new(), timing()).unwrap();
    releases(&store, &store).await;
    assert_eq!(tickets(&store, "a").await, 0);
}

/// Guards, places and requests that are dropped in a runtime that ends.
async fn drops(server: &Server, store: &LockStore) {
    for round in 0..ROUNDS {
        let runtime = RUNTIMES[round % RUNTIMES.len()];
        let guard = store.lock("a").await.unwrap();
        let place = store.take_ticket("a").await.unwrap();
        // A waiter before the guard, or after it.
        let is_place_first = round % 3 == 0;
        in_a_short_runtime(runtime, async move {
            if is_place_first {
                drop(place);
                drop(guard);
            } else {
                drop(guard);
                drop(place);
            }
        });
        let what = "the tickets are given back";
        holds_within(SOON, what, || keys(server).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_given_back() {
    let (server, store) = redis().await;
    drops(&server, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_guard_serves_a_waiter() {
    let (server, store) = redis().await;
    for round in 0..ROUNDS {
        let runtime = RUNTIMES[round % RUNTIMES.len()];
        let guard = store.lock("a").await.unwrap();
        let place = store.take_ticket("a").await.unwrap();
        in_a_short_runtime(runtime, async move { drop(guard) });
        is_served(place).await.release().await.unwrap();
    }
    nothing_left_at(&server).await;
}

/// The first runtime in which a request was polled ends: the next guard that is
/// dropped outside of all runtimes is given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_dropped_outside_of_all_runtimes_is_given_back() {
    let (server, store) = redis().await;
    let first = store.clone();
    in_a_short_runtime(single_threaded, async move {
        first.lock("a").await.unwrap().release().await
    })
    .unwrap();
    let guard = store.lock("a").await.unwrap();
    let thread = std::thread::spawn(move || drop(guard));
    aside(|| thread.join()).unwrap();
    let what = "the ticket is given back";
    holds_within(SOON, what, || keys(&server).is_empty()).await;
}

#[track_caller]
fn assert_closed<T>(outcome: Result<T, LockError>, begun: Instant) {
    let Err(error) = outcome else {
        panic!("a store without its runtime serves");
    };
    assert_eq!(error.kind(), LockErrorKind::Closed, "{error}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// A store on Redis whose own runtime has ended, and a lock that it holds.
fn without_its_runtime(server: &Server) -> (LockStore, LockGuard) {
    let mut redis = at(&server.url());
    redis.socket_timeout = LONG;
    in_a_short_runtime(multi_threaded, async move {
        let store = store(&redis, timing()).await;
        let guard = store.lock("held").await.unwrap();
        (store, guard)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_runtime_says_at_once_that_it_is_closed() {
    let server = aside(Server::start);
    let (store, guard) = without_its_runtime(&server);
    for id in ["held", "other"] {
        let begun = Instant::now();
        assert_closed(store.lock(id).wait_timeout(LONG).await, begun);
        let begun = Instant::now();
        assert_closed(store.take_ticket(id).wait_timeout(LONG).await, begun);
        let begun = Instant::now();
        assert_closed(store.try_lock(id).await, begun);
    }
    let begun = Instant::now();
    assert_closed(store.get_lock("held").await, begun);
    let begun = Instant::now();
    assert_closed(guard.extend(LONG).await, begun);
    let begun = Instant::now();
    assert_closed(guard.release().await, begun);
    // Closing such a store does not hang either.
    let _ = timeout(SOON, store.close()).await.unwrap();
}

/// The runtime of the store ends while a waiter waits in another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_told_when_the_runtime_of_its_store_ends() {
    let server = aside(Server::start);
    let runtime = multi_threaded();
    let redis = at(&server.url());
    let creating = runtime.spawn(async move { store(&redis, timing()).await });
    let store = creating.await.unwrap();
    let held = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    let waiting = tokio::spawn(place.wait());
    let locking = {
        let store = store.clone();
        tokio::spawn(async move { store.lock("a").wait_timeout(LONG).await })
    };
    holds_within(SOON, "all tickets are issued", || {
        server.command(&["LLEN", "lock-store:tickets:a"]).integer() == 3
    })
    .await;
    let begun = Instant::now();
    aside(|| drop(runtime));
    assert_closed(told(waiting).await, begun);
    assert_closed(told(locking).await, begun);
    drop(held);
}

/// In memory a store needs no runtime of its own: it serves in the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_memory_goes_on_without_its_first_runtime() {
    let (store, guard, place) = in_a_short_runtime(multi_threaded, async {
        let store = LockStore::with_timing(InMemoryLockStore::new(), timing()).unwrap();
        let guard = store.lock("a").await.unwrap();
        let place = store.take_ticket("a").await.unwrap();
        (store, guard, place)
    });
    guard.release().await.unwrap();
    is_served(place).await.release().await.unwrap();
    let held = store.lock("a").await.unwrap();
    let error = store
        .lock("a")
        .wait_timeout(Duration::from_millis(50))
        .await;
    assert!(error.unwrap_err().is_timed_out());
    held.release().await.unwrap();
}
