//! A clock that all processes of this machine share, and never goes back.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on that clock.
pub(super) type Nanos = u64;

pub(super) fn now() -> Nanos {
    // No system that this runs on is without it.
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return 0;
    };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec())
}

/// When it is that time, for a timer.
pub(super) fn at(time: Nanos) -> tokio::time::Instant {
    (Instant::now() + Duration::from_nanos(time.saturating_sub(now()))).into()
}

pub(super) fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

#[allow(clippy::cast_precision_loss)] // for people
pub(super) fn seconds(time: Nanos) -> f64 {
    time as f64 / 1e9
}

/// The time in which is measured: from the one until before the other.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) from: Nanos,
    pub(super) until: Nanos,
}

impl Window {
    pub(super) fn contains(self, time: Nanos) -> bool {
        (self.from..self.until).contains(&time)
    }

    pub(super) fn length(self) -> Nanos {
        self.until.saturating_sub(self.from)
    }
}
