//! Tasks that lock conversations all the time, and what they must not see.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lock_store::{LockError, LockErrorKind, LockStore};
use tokio::task::JoinSet;

use super::redis::{PATIENCE, holds_within};

/// How much longer than it may a call takes on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// What tasks under load may be told, and what not.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub lifetime: Duration,
    pub wait_timeout: Duration,
    /// The storage may be out of reach for a while.
    pub may_fail: bool,
    /// The storage may lose what was written: then tickets go, holders lose
    /// their locks, and two may overlap.
    pub may_forget: bool,
}

impl Rules {
    /// Nobody notices anything.
    pub fn strict() -> Self {
        Self {
            lifetime: Duration::from_secs(60),
            wait_timeout: Duration::from_secs(20),
            may_fail: false,
            may_forget: false,
        }
    }

    /// Callers may be told that the store is out of reach, in time.
    pub fn outage(wait_timeout: Duration) -> Self {
        Self {
            wait_timeout,
            may_fail: true,
            ..Self::strict()
        }
    }
}

/// Tasks that lock conversations again and again, and whoever watches them:
/// nobody overlaps, tokens only rise, and no call takes longer than it may.
pub struct Load {
    watcher: Arc<Watcher>,
    tasks: JoinSet<()>,
}

struct Watcher {
    rules: Rules,
    seen: Mutex<HashMap<String, Seen>>,
    complaints: Mutex<Vec<String>>,
    /// For each task.
    failed: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    inside: Vec<u64>,
    highest: u64,
    served: usize,
}

impl Load {
    /// Begins with so many tasks for each store and each conversation.
    pub fn begin(
        stores: &[&LockStore],
        conversations: &[&str],
        tasks_each: usize,
        rules: Rules,
    ) -> Self {
        let seen = |id: &&str| ((*id).to_owned(), Seen::default());
        let watcher = Arc::new(Watcher {
            rules,
            seen: Mutex::new(conversations.iter().map(seen).collect()),
            complaints: Mutex::default(),
            failed: (0..stores.len() * conversations.len() * tasks_each)
                .map(|_| AtomicUsize::new(0))
                .collect(),
            is_over: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for store in stores {
            for id in conversations {
                for _ in 0..tasks_each {
                    let (store, id, watcher) =
                        ((*store).clone(), (*id).to_owned(), watcher.clone());
                    let task = tasks.len();
                    tasks.spawn(async move { watcher.work(task, &store, &id).await });
                }
            }
        }
        Self { watcher, tasks }
    }

    /// Waits until every conversation was served this much more often.
    #[track_caller]
    pub fn goes_on(&self, more: usize) -> impl Future<Output = ()> {
        self.goes_on_within(PATIENCE, more)
    }

    /// The same, within a limit.
    #[track_caller]
    pub fn goes_on_within(&self, limit: Duration, more: usize) -> impl Future<Output = ()> {
        let watcher = self.watcher.clone();
        let begun = watcher.served();
        holds_within(limit, "all conversations go on", move || {
            let now = watcher.served();
            watcher.assert_content();
            now.iter().all(|(id, served)| *served >= begun[id] + more)
        })
    }

    /// Waits until so many more calls of every task have failed.
    #[track_caller]
    pub fn fails(&self, more: usize) -> impl Future<Output = ()> {
        let watcher = self.watcher.clone();
        let begun = watcher.failed();
        holds_within(PATIENCE, "all tasks are told", move || {
            let now = watcher.failed();
            now.iter()
                .zip(&begun)
                .all(|(now, begun)| *now >= begun + more)
        })
    }

    /// Watches holders who have no token, beside the tasks.
    pub fn guests(&self) -> Guests {
        Guests(self.watcher.clone())
    }

    /// Lets the tasks come to their end, and complains of what they saw.
    pub async fn end(mut self) {
        self.watcher.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.watcher.assert_content();
    }
}

/// Holders who have no token: somebody else's.
#[derive(Clone)]
pub struct Guests(Arc<Watcher>);

impl Guests {
    /// Instead of a token.
    const NONE: u64 = u64::MAX;

    pub fn enter(&self, id: &str) {
        let mut seen = self.0.seen.lock().unwrap();
        let seen = seen.get_mut(id).unwrap();
        self.0.enter_alone(id, seen, Self::NONE);
    }

    pub fn leave(&self, id: &str) {
        self.0.leave(id, Self::NONE);
    }

    pub fn complain(&self, what: String) {
        self.0.complain(what);
    }

    /// Whether the tasks are about to end.
    pub fn are_last(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }
}

impl Watcher {
    async fn work(&self, task: usize, store: &LockStore, id: &str) {
        let Rules {
            lifetime,
            wait_timeout,
            ..
        } = self.rules;
        while !self.is_over.load(Ordering::Relaxed) {
            let highest = self.seen.lock().unwrap()[id].highest;
            let begun = Instant::now();
            let request = store.lock(id).lifetime(lifetime);
            let outcome = request.wait_timeout(wait_timeout).await;
            let took = begun.elapsed();
            if took > wait_timeout + SLACK {
                self.complain(format!("a lock took {took:?}: {outcome:?}"));
            }
            match outcome {
                Ok(guard) => {
                    let token = guard.fencing_token().get();
                    self.enter(id, token, highest);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    self.leave(id, token);
                    let begun = Instant::now();
                    if let Err(error) = guard.release().await {
                        self.has_failed(task, &error, begun.elapsed());
                    }
                }
                Err(error) => self.has_failed(task, &error, took),
            }
        }
    }

    fn enter(&self, id: &str, token: u64, highest_before: u64) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.get_mut(id).unwrap();
        // Whoever asked after another was served has the higher token. If
        // none overlap, the one that is served later has it, too.
        let highest = if self.rules.may_forget {
            highest_before
        } else {
            seen.highest
        };
        if token <= highest {
            self.complain(format!("{id}: token {token} after {highest}"));
        }
        self.enter_alone(id, seen, token);
        seen.highest = seen.highest.max(token);
    }

    fn enter_alone(&self, id: &str, seen: &mut Seen, token: u64) {
        if !seen.inside.is_empty() && !self.rules.may_forget {
            self.complain(format!("{id}: {token} overlaps {:?}", seen.inside));
        }
        seen.inside.push(token);
    }

    fn leave(&self, id: &str, token: u64) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.get_mut(id).unwrap();
        seen.inside.retain(|inside| *inside != token);
        seen.served += 1;
    }

    /// How many calls of each task have failed so far.
    fn failed(&self) -> Vec<usize> {
        let failed = self.failed.iter();
        failed.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    fn has_failed(&self, task: usize, error: &LockError, took: Duration) {
        self.failed[task].fetch_add(1, Ordering::Relaxed);
        let Rules {
            may_fail,
            may_forget,
            ..
        } = self.rules;
        let is_fine = match error.kind() {
            LockErrorKind::Unavailable | LockErrorKind::TimedOut => may_fail,
            LockErrorKind::Gone | LockErrorKind::Lost => may_forget,
            _ => false,
        };
        if !is_fine {
            self.complain(format!("after {took:?}: {error}"));
        }
    }

    fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }

    fn served(&self) -> HashMap<String, usize> {
        let seen = self.seen.lock().unwrap();
        let served = seen.iter().map(|(id, seen)| (id.clone(), seen.served));
        served.collect()
    }

    #[track_caller]
    fn assert_content(&self) {
        let complaints = self.complaints.lock().unwrap();
        let first: Vec<_> = complaints.iter().take(10).collect();
        assert!(
            first.is_empty(),
            "{} complaints: {first:#?}",
            complaints.len()
        );
    }
}
