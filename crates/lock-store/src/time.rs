//! Points in time that are stored with tickets, and the clock that gives them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time: whole microseconds since the Unix epoch.
///
/// In JSON and in Rasa's terms it is a number of seconds.
///
/// ```
/// use std::time::Duration;
/// use lock_store::Timestamp;
///
/// let issued = Timestamp::from_micros(1_763_920_000_500_000);
/// assert_eq!(issued.as_secs_f64(), 1_763_920_000.5);
/// assert_eq!((issued + Duration::from_secs(1)) - issued, Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point this many microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The point this many seconds after the epoch; `None` for a number that
    /// is negative, not finite, or beyond the year 500,000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // range checked
    pub fn from_secs_f64(seconds: f64) -> Option<Self> {
        (0.0..=1.6e13)
            .contains(&seconds)
            .then(|| Self((seconds * 1e6).round() as u64))
    }

    /// Seconds since the epoch, exact to a microsecond until the year 2255.
    #[allow(clippy::cast_precision_loss)]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time of this machine's clock.
    pub fn now() -> Self {
        Self(micros(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        ))
    }
}

fn micros(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(u64::from(duration.subsec_micros()))
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

/// The time from the right to the left, zero when the left is earlier.
impl std::ops::Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A clock that starts at the machine's time and from then on only counts, so
/// that a step of the machine's clock moves no lease.
///
/// It counts with tokio's clock, which a test can pause and move.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    start: Instant,
    start_time: Timestamp,
}

impl SteadyClock {
    /// A clock that says the machine's time now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            start_time: Timestamp::now(),
        }
    }

    /// What the clock says.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now().into_std())
    }

    /// What the clock said at that instant of this process.
    #[inline]
    pub fn at(&self, instant: std::time::Instant) -> Timestamp {
        self.start_time + instant.saturating_duration_since(self.start.into_std())
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new()
    }
}
