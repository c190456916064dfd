//! Backoff between attempts: each twice as long as the last, up to a limit,
//! and none exactly so, lest a whole fleet comes back in the same moment.

use std::time::Duration;

/// Connecting again.
pub(super) const CONNECTING: Backoff =
    Backoff::of(Duration::from_millis(20), Duration::from_secs(1));

/// Sending a step again, while the server says that it is busy with itself.
pub(super) const SENDING: Backoff =
    Backoff::of(Duration::from_millis(10), Duration::from_millis(200));

#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    const fn of(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// The longest pause that there is.
    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    /// How long to pause now: between half of it and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        // Without a random number all of it: nothing depends on it.
        let part = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        pause.mul_f64(0.5 + part / 2.0)
    }

    /// It worked: the next attempt that fails is a first one.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_to_their_limit_and_reset() {
        let mut backoff = CONNECTING;
        let mut whole = Duration::from_millis(20);
        for _ in 0..10 {
            let pause = backoff.next();
            assert!((whole / 2..=whole).contains(&pause), "{pause:?}");
            whole = (whole * 2).min(backoff.longest());
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(20));
    }
}
