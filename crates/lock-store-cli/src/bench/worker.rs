//! One process of those that measure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lock_store::{
    InMemoryLockStore, LockError, LockStore, LockStoreConfig, RedisLockStore, StoreType, Timing,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clock::{self, Nanos, Window, nanos};
use super::measured::{Measured, Turn};
use super::plan::{HAND_OFFS, Part, Plan};
use super::{Halted, SOON, cycles, hand_off};

/// Tasks note what they measure in so many places, so that they do not wait
/// for each other.
const SHARDS: usize = 16;

/// How long whoever had an error waits: some come at once, and again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// The connections of a process.
pub(super) struct Worker {
    plan: Arc<Plan>,
    /// Which of all processes this is.
    number: usize,
    /// The clients of a line: two, as hand-offs between processes are what
    /// matters. All else is done by the first.
    stores: Vec<LockStore>,
    redis: Option<Arc<RedisLockStore>>,
    timing: Timing,
    /// How long a call may take to find out that nobody answers.
    patience: Duration,
}

/// What to measure, and when.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) part: Part,
    pub(super) window: Window,
}

/// What the tasks of a part share.
pub(super) struct Scene {
    pub(super) plan: Arc<Plan>,
    pub(super) process: usize,
    pub(super) stores: Vec<LockStore>,
    pub(super) redis: Option<Arc<RedisLockStore>>,
    window: Window,
    /// Earlier than the end of the window if it was halted.
    until: AtomicU64,
    interval: Nanos,
    wait_timeout: Duration,
    shards: Vec<Mutex<Measured>>,
    turns_left: AtomicU64,
}

impl Worker {
    pub(super) async fn open(
        config: &LockStoreConfig,
        plan: Plan,
        number: usize,
    ) -> anyhow::Result<Self> {
        let timing = config.timing.clone();
        let mut stores = Vec::new();
        let mut redis = None;
        if config.store_type == StoreType::Redis {
            for _ in 0..2 {
                let client = Arc::new(RedisLockStore::connect(&config.redis).await?);
                stores.push(LockStore::with_timing(client.clone(), timing.clone())?);
                redis.get_or_insert(client);
            }
        } else {
            let backend = InMemoryLockStore::new();
            stores.push(LockStore::with_timing(backend, timing.clone())?);
        }
        Ok(Self {
            plan: Arc::new(plan),
            number,
            stores,
            redis,
            timing,
            patience: config.redis.socket_timeout,
        })
    }

    pub(super) fn store(&self) -> &LockStore {
        &self.stores[0]
    }

    pub(super) fn redis(&self) -> Option<&RedisLockStore> {
        self.redis.as_deref()
    }

    /// Measures a part, up to its end or until it is halted.
    pub(super) async fn measure(&self, order: Order, mut halted: Halted) -> Measured {
        let Order { part, window } = order;
        let wait_timeout = self.timing.wait_timeout;
        let share = HAND_OFFS.div_ceil(self.plan.processes);
        let scene = Arc::new(Scene {
            plan: self.plan.clone(),
            process: self.number,
            stores: self.stores.clone(),
            redis: self.redis.clone(),
            window,
            until: AtomicU64::new(window.until),
            interval: self.plan.interval(),
            wait_timeout: wait_timeout.unwrap_or(self.timing.lock_lifetime),
            shards: (0..SHARDS).map(|_| Mutex::new(Measured::new())).collect(),
            turns_left: AtomicU64::new(share as u64),
        });
        let mut tasks = JoinSet::new();
        match part {
            Part::OneTask => {
                tasks.spawn(cycles::one_task(scene.clone()));
            }
            Part::Load => cycles::load(&scene, &mut tasks),
            Part::HandOff => hand_off::line(&scene, &mut tasks),
        }
        // A call that began before the end, and its release.
        let mut latest = window.until + nanos(self.patience + 2 * SOON);
        let mut may_halt = true;
        loop {
            tokio::select! {
                biased;
                ended = tasks.join_next() => match ended {
                    Some(Err(error)) => scene.note(0, |measured| {
                        measured.faults.add_all("failed", 1, &error);
                    }),
                    Some(Ok(())) => {}
                    None => break,
                },
                stopped = halted.wait_for(Option::is_some), if may_halt => {
                    may_halt = false;
                    if let Some(at) = stopped.ok().and_then(|halt| *halt).map(|halt| halt.at) {
                        scene.until.fetch_min(at, Ordering::Relaxed);
                        latest = at + nanos(SOON);
                    }
                }
                () = tokio::time::sleep_until(clock::at(latest)) => {
                    self.give_up(&scene, &mut tasks).await;
                    break;
                }
            }
        }
        scene.collect()
    }

    /// Ends tasks that do not. Those that wait for each other would, if there
    /// was anybody who answered them.
    async fn give_up(&self, scene: &Scene, tasks: &mut JoinSet<()>) {
        let left = tasks.len() as u64;
        tasks.shutdown().await;
        let is_connected = |redis: &RedisLockStore| redis.is_connected();
        if !self.redis().is_none_or(is_connected) || !scene.plan.is_contended() {
            scene.note(0, |measured| {
                let text = "there was no answer from Redis when the measurement ended";
                measured.faults.add_all("unavailable", left, &text);
            });
        }
    }

    /// Waits until every ticket is given back, not for long.
    pub(super) async fn close(&self) {
        for store in &self.stores {
            // None in memory; on Redis tickets expire.
            let _ = timeout(SOON, store.close()).await;
        }
    }
}

impl Scene {
    pub(super) fn until(&self) -> Nanos {
        self.until.load(Ordering::Relaxed)
    }

    /// How long to wait for a turn, if there is still time: as configured, but
    /// not far beyond the end. Until then whoever waits for others is served,
    /// as nobody queues any more.
    pub(super) fn wait_timeout(&self, now: Nanos) -> Option<Duration> {
        let left = self.until().checked_sub(now).filter(|left| *left > 0)?;
        Some(self.wait_timeout.min(Duration::from_nanos(left) + SOON))
    }

    /// Notes something for the results.
    pub(super) fn note(&self, task: usize, note: impl FnOnce(&mut Measured)) {
        let shard = &self.shards[task % self.shards.len()];
        note(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes a cycle that has just ended.
    pub(super) fn cycle(&self, task: usize, begun: Nanos, ended: Nanos) {
        if !self.window.contains(ended) {
            return;
        }
        #[allow(clippy::cast_possible_truncation)] // there are not many
        let interval = ((ended - self.window.from) / self.interval) as usize;
        self.note(task, |measured| measured.cycle(ended - begun, interval));
    }

    pub(super) fn round_trip(&self, time: Duration) {
        if self.window.contains(clock::now()) {
            self.note(0, |measured| measured.round_trips.record(nanos(time)));
        }
    }

    /// Notes a turn, and says whether more are wanted.
    pub(super) fn turn(&self, party: usize, turn: Turn) -> bool {
        if !self.window.contains(turn.released) {
            return turn.released < self.window.from;
        }
        self.note(party, |measured| measured.turns.push(turn));
        let more = |left: u64| left.checked_sub(1);
        let left = self
            .turns_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        left.is_ok()
    }

    /// Notes an error, and waits a little. A turn that did not come in the time
    /// after the end is none, nor is what failed before it counts.
    pub(super) async fn fault(&self, task: usize, error: &LockError) {
        let now = clock::now();
        let is_the_end = (error.is_timed_out() || error.is_gone()) && now >= self.until();
        if now >= self.window.from && !is_the_end {
            self.note(task, |measured| measured.faults.add(error));
        }
        let pause = nanos(PAUSE).min(self.until().saturating_sub(now));
        tokio::time::sleep(Duration::from_nanos(pause)).await;
    }

    fn collect(&self) -> Measured {
        let mut all = Measured::new();
        for shard in &self.shards {
            let measured = std::mem::replace(
                &mut *shard.lock().unwrap_or_else(PoisonError::into_inner),
                Measured::new(),
            );
            all.merge(measured);
        }
        all
    }
}
