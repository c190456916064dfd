//! Waiting times of the last minute.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

/// How long a waiting time counts, unless it is of the last look.
const WINDOW: Duration = Duration::from_secs(60);

/// Enough for people, and small: there is one histogram for each look.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The waiting times that each look found, and their sum.
#[derive(Debug, Default)]
pub(super) struct Waits {
    looks: VecDeque<(Duration, Times)>,
}

/// In µs. Grows with the largest value, to some kB.
#[derive(Debug)]
pub(super) struct Times(Option<Histogram<u64>>);

impl Times {
    fn new() -> Self {
        // Two significant digits are within its range.
        Self(Histogram::new(SIGNIFICANT_DIGITS).ok())
    }

    pub(super) fn record(&mut self, wait: Duration) {
        if let Some(histogram) = &mut self.0 {
            let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2);
            // Fails only if there is no memory for it to grow.
            let _ = histogram.record(micros);
        }
    }
}

impl Waits {
    /// A place for what a look finds.
    pub(super) fn open(&mut self, at: Duration) -> &mut Times {
        self.looks.push_front((at, Times::new()));
        &mut self.looks[0].1
    }

    pub(super) fn forget(&mut self, now: Duration) {
        let is_old = |at: Duration| now.saturating_sub(at) >= WINDOW;
        while self.looks.len() > 1 && self.looks.back().is_some_and(|look| is_old(look.0)) {
            self.looks.pop_back();
        }
    }

    /// `None` if nobody was seen waiting.
    pub(super) fn at_quantile(&self, quantile: f64) -> Option<Duration> {
        let mut sum = Histogram::<u64>::new(SIGNIFICANT_DIGITS).ok()?;
        for histogram in self.looks.iter().filter_map(|(_, times)| times.0.as_ref()) {
            sum.add(histogram).ok()?;
        }
        (!sum.is_empty()).then(|| Duration::from_micros(sum.value_at_quantile(quantile)))
    }
}
