//! Locks in memory, beside what else a user might take, in one run:
//!
//!     cargo bench -p lock-store --bench memory
//!
//! `scripts/bench-table` makes the table of `docs/BENCHMARKS.md` of the result.

#![allow(missing_docs)] // made by criterion's macros
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::future::Future;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use lock_store::LockStore;
use tokio::runtime::Builder;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Something that locks by key.
trait Contender: Send + Sync + 'static {
    const NAME: &'static str;

    fn new() -> Self;

    /// Locks, does `work`, releases.
    fn locked<W: Future<Output = ()> + Send>(
        &self,
        key: &str,
        work: W,
    ) -> impl Future<Output = ()> + Send;
}

impl Contender for LockStore {
    const NAME: &'static str = "lock-store";

    fn new() -> Self {
        Self::in_memory()
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, key: &str, work: W) {
        let guard = self.lock(key).await.unwrap();
        work.await;
        guard.release().await.unwrap();
    }
}

impl Contender for lockable::LockPool<String> {
    const NAME: &'static str = "lockable LockPool";

    fn new() -> Self {
        Self::new()
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, key: &str, work: W) {
        let _guard = self.async_lock(key.to_owned()).await;
        work.await;
    }
}

impl Contender for keyed_lock::r#async::KeyedLock<String> {
    const NAME: &'static str = "keyed-lock";

    fn new() -> Self {
        Self::new()
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, key: &str, work: W) {
        let _guard = self.lock(key.to_owned()).await;
        work.await;
    }
}

/// What many services write themselves: a mutex per key in a map, taken out
/// again when nobody uses it.
struct MutexPerKey(DashMap<String, Arc<tokio::sync::Mutex<()>>>);

impl Contender for MutexPerKey {
    const NAME: &'static str = "DashMap + tokio Mutex";

    fn new() -> Self {
        Self(DashMap::new())
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, key: &str, work: W) {
        let mutex = self.0.entry(key.to_owned()).or_default().clone();
        let guard = mutex.lock().await;
        work.await;
        drop(guard);
        drop(mutex);
        self.0
            .remove_if(key, |_, mutex| Arc::strong_count(mutex) == 1);
    }
}

/// One mutex for everything: the limit of a hand-off, and no lock by key.
struct OneMutex(tokio::sync::Mutex<()>);

impl Contender for OneMutex {
    const NAME: &'static str = "one tokio Mutex";

    fn new() -> Self {
        Self(tokio::sync::Mutex::new(()))
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, _key: &str, work: W) {
        let _guard = self.0.lock().await;
        work.await;
    }
}

/// The same, with a limit to the wait, which every wait for a ticket has.
struct OneMutexWithTimeout(tokio::sync::Mutex<()>);

impl Contender for OneMutexWithTimeout {
    const NAME: &'static str = "one tokio Mutex, each wait with a timeout";

    fn new() -> Self {
        Self(tokio::sync::Mutex::new(()))
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, _key: &str, work: W) {
        let limit = Duration::from_secs(60);
        let _guard = tokio::time::timeout(limit, self.0.lock()).await.unwrap();
        work.await;
    }
}

/// An insert and a remove: the limit of a lock by key, and no lock.
struct OnlyAMap(Mutex<HashSet<String>>);

impl Contender for OnlyAMap {
    const NAME: &'static str = "insert + remove in a map";

    fn new() -> Self {
        Self(Mutex::default())
    }

    async fn locked<W: Future<Output = ()> + Send>(&self, key: &str, work: W) {
        self.0.lock().unwrap().insert(key.to_owned());
        work.await;
        self.0.lock().unwrap().remove(key);
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("conversation-{i}")).collect()
}

#[allow(clippy::unused_async)] // work is a future
async fn no_work() {}

/// Lock and release, one after the other, over some conversations.
fn uncontended<C: Contender>(group: &mut BenchmarkGroup<WallTime>, conversations: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let keys = keys(conversations);
    let contender = C::new();
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let start = Instant::now();
                for key in keys
                    .iter()
                    .cycle()
                    .take(usize::try_from(iterations).unwrap())
                {
                    contender.locked(black_box(key), no_work()).await;
                }
                start.elapsed()
            })
        });
    });
}

/// Waiters on one conversation, each of them back in line as soon as it was
/// served: the time from one holder to the next.
fn hand_off<C: Contender>(group: &mut BenchmarkGroup<WallTime>, waiters: usize) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let contender = Arc::new(C::new());
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = usize::try_from(iterations).unwrap().div_ceil(waiters);
            let contender = contender.clone();
            let elapsed = runtime.block_on(async move {
                let start = Arc::new(Barrier::new(waiters + 1));
                let mut tasks = JoinSet::new();
                for _ in 0..waiters {
                    let (contender, start) = (contender.clone(), start.clone());
                    tasks.spawn(async move {
                        start.wait().await;
                        for _ in 0..rounds {
                            // Held over an await, so that the others queue up.
                            let work = tokio::task::yield_now();
                            contender.locked("conversation-0", work).await;
                        }
                    });
                }
                start.wait().await;
                let start = Instant::now();
                while tasks.join_next().await.is_some() {}
                start.elapsed()
            });
            per_iteration(elapsed, iterations, rounds * waiters)
        });
    });
}

fn per_iteration(elapsed: Duration, iterations: u64, done: usize) -> Duration {
    #[allow(clippy::cast_precision_loss)]
    elapsed.mul_f64(iterations as f64 / done as f64)
}

/// Two threads over the same conversations, each in an order of its own.
fn two_threads<C: Contender>(group: &mut BenchmarkGroup<WallTime>, conversations: usize) {
    let keys = Arc::new(keys(conversations));
    let contender = Arc::new(C::new());
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            let each = usize::try_from(iterations).unwrap().div_ceil(2);
            let start = Instant::now();
            std::thread::scope(|scope| {
                for (offset, step) in [(0, 1), (conversations / 2, 7)] {
                    let (contender, keys) = (&contender, &keys);
                    scope.spawn(move || {
                        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(async {
                            for i in 0..each {
                                let key = &keys[(offset + i * step) % keys.len()];
                                contender.locked(black_box(key), no_work()).await;
                            }
                        });
                    });
                }
            });
            per_iteration(start.elapsed(), iterations, each * 2)
        });
    });
}

fn benchmarks(criterion: &mut Criterion) {
    for conversations in [1, 1_000] {
        let mut group =
            criterion.benchmark_group(format!("lock and release, {conversations} conversations"));
        uncontended::<LockStore>(&mut group, conversations);
        uncontended::<lockable::LockPool<String>>(&mut group, conversations);
        uncontended::<keyed_lock::r#async::KeyedLock<String>>(&mut group, conversations);
        uncontended::<MutexPerKey>(&mut group, conversations);
        uncontended::<OneMutex>(&mut group, conversations);
        uncontended::<OnlyAMap>(&mut group, conversations);
        group.finish();
    }
    for waiters in [2, 100, 1_000] {
        let mut group = criterion.benchmark_group(format!("hand-off, {waiters} waiters"));
        hand_off::<LockStore>(&mut group, waiters);
        hand_off::<lockable::LockPool<String>>(&mut group, waiters);
        hand_off::<keyed_lock::r#async::KeyedLock<String>>(&mut group, waiters);
        hand_off::<MutexPerKey>(&mut group, waiters);
        hand_off::<OneMutex>(&mut group, waiters);
        hand_off::<OneMutexWithTimeout>(&mut group, waiters);
        group.finish();
    }
    let mut group = criterion.benchmark_group("2 threads, 1000 conversations");
    two_threads::<LockStore>(&mut group, 1_000);
    two_threads::<lockable::LockPool<String>>(&mut group, 1_000);
    two_threads::<keyed_lock::r#async::KeyedLock<String>>(&mut group, 1_000);
    two_threads::<MutexPerKey>(&mut group, 1_000);
    two_threads::<OneMutex>(&mut group, 1_000);
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = memory;
    config = quick();
    targets = benchmarks
}
criterion_main!(memory);
