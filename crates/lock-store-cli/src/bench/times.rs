//! How long something took, each time.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock::Nanos;

/// Longer ones, of a day and more, count as this.
const LONGEST: Nanos = 86_400_000_000_000;

/// Times in nanoseconds, with three significant digits, in constant memory.
#[derive(Debug, Clone)]
pub(super) struct Times(Option<Histogram<u64>>);

impl Times {
    pub(super) fn new() -> Self {
        // Three digits are within its range.
        Self(Histogram::new(3).ok())
    }

    pub(super) fn record(&mut self, time: Nanos) {
        self.record_all(time, 1);
    }

    fn record_all(&mut self, time: Nanos, count: u64) {
        if let Some(histogram) = &mut self.0 {
            // Grows with the largest, by some kB in all.
            let _ = histogram.record_n(time.min(LONGEST), count);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (time, count) in other.counts() {
            self.record_all(time, count);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn min(&self) -> Nanos {
        self.0.as_ref().map_or(0, Histogram::min)
    }

    pub(super) fn max(&self) -> Nanos {
        self.0.as_ref().map_or(0, Histogram::max)
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.as_ref().map_or(0.0, Histogram::mean)
    }

    pub(super) fn quantile(&self, quantile: f64) -> Nanos {
        let histogram = self.0.as_ref();
        histogram.map_or(0, |histogram| histogram.value_at_quantile(quantile))
    }

    /// Each time that was seen, ascending, and how often.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Nanos, u64)> + '_ {
        self.0.iter().flat_map(|histogram| {
            histogram
                .iter_recorded()
                .map(|seen| (seen.value_iterated_to(), seen.count_at_value()))
        })
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.counts())
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut times = Self::new();
        for (time, count) in Vec::<(Nanos, u64)>::deserialize(deserializer)? {
            times.record_all(time, count);
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_between_processes() {
        let mut times = Times::new();
        for i in 0..10_000_u64 {
            times.record(i * i * 37);
        }
        times.record(u64::MAX);
        let sent = serde_json::to_string(&times).unwrap();
        let mut received: Times = serde_json::from_str(&sent).unwrap();
        assert_eq!(received.count(), times.count());
        for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
            assert_eq!(received.quantile(quantile), times.quantile(quantile));
        }
        received.merge(&times);
        assert_eq!(received.count(), 2 * times.count());
        assert_eq!(received.quantile(0.5), times.quantile(0.5));
    }
}
