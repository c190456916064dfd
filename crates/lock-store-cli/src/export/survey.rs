//! Looking at all locks, for whoever scrapes: never two at a time, and not
//! more often than allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use lock_store::{LockError, RedisLockStore, ServerInfo};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::figures::Figures;

/// How long a lost connection may take to come back before that is told, but
/// not more than half of the time that there is.
const RECONNECTING: Duration = Duration::from_secs(1);

/// What an answer needs for its way back, at most: a tenth of the time that
/// whoever asks waits for it.
const WAY_BACK: Duration = Duration::from_millis(500);

/// Looks at the locks.
pub(super) struct Surveyor {
    redis: Arc<RedisLockStore>,
    least_interval: Duration,
    timeout: Duration,
    counters: Counters,
    /// Held while a survey is under way: others wait for what it sees.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// With the time of its end.
    survey: Option<(Instant, Survey)>,
    /// Whether the last one was in vain, which was told then.
    is_away: bool,
}

/// What came of one, and of those before.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// `None` if Redis could not be reached.
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) counts: Counts,
}

/// How many surveys there were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
}

#[derive(Default)]
struct Counters {
    ok: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
}

impl Counters {
    fn now(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            ok: count(&self.ok),
            failed: count(&self.failed),
            timed_out: count(&self.timed_out),
        }
    }
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) figures: Figures,
    pub(super) round_trip: Duration,
    pub(super) took: Duration,
    pub(super) at: SystemTime,
    /// `None` if this user may not ask.
    pub(super) servers: Option<Vec<ServerInfo>>,
}

impl Surveyor {
    pub(super) fn new(
        redis: Arc<RedisLockStore>,
        least_interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            redis,
            least_interval,
            timeout,
            counters: Counters::default(),
            last: Mutex::default(),
        }
    }

    /// The locks as they are, or were at most `least_interval` ago.
    ///
    /// `within` is how long whoever asks waits for them: to say in time that
    /// Redis does not answer is worth more than to say nothing.
    ///
    /// May be dropped at any point: then there was no survey.
    pub(super) async fn look(&self, within: Option<Duration>) -> Survey {
        let asked = Instant::now();
        let in_time = within.map(|within| within.saturating_sub(WAY_BACK.min(within / 10)));
        let mut last = match in_time {
            None => self.last.lock().await,
            Some(in_time) => match timeout(in_time, self.last.lock()).await {
                Ok(last) => last,
                // Whoever waits for longer will learn what comes of it.
                Err(_) => return self.outcome(None),
            },
        };
        if let Some((ended, survey)) = &last.survey {
            // One that was under way when we asked is as good as our own.
            if *ended >= asked || ended.elapsed() < self.least_interval {
                return survey.clone();
            }
        }
        let left = in_time.map(|in_time| in_time.saturating_sub(asked.elapsed()));
        let limit = left.map_or(self.timeout, |left| left.min(self.timeout));
        let looked = timeout(limit, self.survey(limit)).await;
        // That our own time was too short says nothing to those who have more.
        let is_for_all = looked.is_ok() || limit == self.timeout;
        let survey = self.outcome(match looked {
            Ok(looked) => self.judge(looked, &mut last),
            Err(_) => self.give_up(limit, &mut last),
        });
        last.survey = is_for_all.then(|| (Instant::now(), survey.clone()));
        survey
    }

    fn outcome(&self, seen: Option<Seen>) -> Survey {
        Survey {
            seen: seen.map(Arc::new),
            counts: self.counters.now(),
        }
    }

    fn judge(&self, looked: Result<Seen, LockError>, last: &mut Last) -> Option<Seen> {
        match looked {
            Ok(seen) => {
                self.counters.ok.fetch_add(1, Ordering::Relaxed);
                last.is_back();
                Some(seen)
            }
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                last.is_away(&error);
                None
            }
        }
    }

    fn give_up(&self, limit: Duration, last: &mut Last) -> Option<Seen> {
        self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
        let limit = (limit.as_secs_f64() * 1e3).round() / 1e3;
        last.is_away(&format_args!(
            "not done after {limit} s; if Redis is well, allow more with --timeout, and with \
             Prometheus' scrape_timeout"
        ));
        None
    }

    async fn survey(&self, limit: Duration) -> Result<Seen, LockError> {
        let begun = Instant::now();
        let round_trip = self.ping(RECONNECTING.min(limit / 2)).await?;
        let mut figures = Figures::default();
        let mut locks = self.redis.survey();
        while let Some(lock) = locks.next().await {
            figures.add(lock)?;
        }
        Ok(Seen {
            figures,
            round_trip,
            servers: self.redis.server_info().await?,
            took: begun.elapsed(),
            at: SystemTime::now(),
        })
    }

    async fn ping(&self, reconnecting: Duration) -> Result<Duration, LockError> {
        if self.redis.is_connected() {
            return self.redis.ping().await;
        }
        match timeout(reconnecting, self.redis.ping()).await {
            Ok(round_trip) => round_trip,
            Err(_) => Err(LockError::unavailable("there is no connection")),
        }
    }
}

impl Last {
    /// An outage is told once, and its end.
    fn is_away(&mut self, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!("the locks cannot be surveyed: {why}");
        }
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.is_away) {
            tracing::warn!("the locks can be surveyed again");
        }
    }
}
