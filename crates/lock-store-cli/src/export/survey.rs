//! Looking at all locks, for whoever scrapes: never two at a time, and not
//! more often than allowed.

use std::sync::Arc;
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
    /// Held while a survey is under way: others wait for what it sees.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    survey: Option<(Instant, Instant, Survey)>,
    counts: Counts,
}

/// What came of one, and of those before.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// `None` if Redis could not be reached.
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) counts: Counts,
}

/// How many surveys there were.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
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
        let mut last = self.last.lock().await;
        if let Some((begun, ended, survey)) = &last.survey {
            // One that began while we waited for the one before is as good as
            // our own.
            if *begun >= asked || ended.elapsed() < self.least_interval {
                return survey.clone();
            }
        }
        let begun = Instant::now();
        let left = within.map(|within| within.saturating_sub(asked.elapsed()));
        let limit = self.limit(left);
        let outcome = timeout(limit, self.survey(limit)).await;
        let seen = match outcome {
            Ok(Ok(seen)) => {
                last.counts.ok += 1;
                Some(Arc::new(seen))
            }
            Ok(Err(error)) => {
                last.counts.failed += 1;
                last.say(&error);
                None
            }
            Err(_) => {
                last.counts.timed_out += 1;
                let limit = limit.as_secs_f64();
                last.say(&format_args!(
                    "not done after {limit} s; if Redis is well, allow more with --timeout, and \
                     with Prometheus' scrape_timeout"
                ));
                None
            }
        };
        if seen.is_some() && last.is_away() {
            tracing::warn!("the locks can be surveyed again");
        }
        let survey = Survey {
            seen,
            counts: last.counts,
        };
        last.survey = Some((begun, Instant::now(), survey.clone()));
        survey
    }

    /// How long a survey may take, if this is left for the answer.
    fn limit(&self, left: Option<Duration>) -> Duration {
        let in_time = left.map(|left| left.saturating_sub(WAY_BACK.min(left / 10)));
        in_time.map_or(self.timeout, |in_time| in_time.min(self.timeout))
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
    fn is_away(&self) -> bool {
        let last = self.survey.as_ref();
        last.is_some_and(|(_, _, survey)| survey.seen.is_none())
    }

    /// An outage is told once.
    fn say(&self, what: &dyn std::fmt::Display) {
        if !self.is_away() {
            tracing::warn!("the locks cannot be surveyed: {what}");
        }
    }
}
