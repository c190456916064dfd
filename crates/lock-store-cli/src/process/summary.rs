//! What is counted on the way, and the summary at the end.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use ahash::RandomState;
use hdrhistogram::Histogram;
use lock_store::ConversationId;

/// Up to how many conversations are counted exactly: 4 MB of hashes.
const COUNTED: usize = 1 << 18;

/// The counts.
pub(crate) struct Tally {
    started: Instant,
    lines: u64,
    bytes: u64,
    messages: u64,
    not_messages: u64,
    done: u64,
    errors: u64,
    reading_failed: bool,
    /// By their hashes. Full at one more than are counted.
    conversations: HashSet<u64, RandomState>,
    hasher: RandomState,
    /// In µs.
    waited: Option<Histogram<u64>>,
    most_in_progress: usize,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            lines: 0,
            bytes: 0,
            messages: 0,
            not_messages: 0,
            done: 0,
            errors: 0,
            reading_failed: false,
            conversations: HashSet::default(),
            hasher: RandomState::new(),
            // Three significant digits are within its range.
            waited: Histogram::new(3).ok(),
            most_in_progress: 0,
        }
    }

    pub(crate) fn read(&mut self, line: u64, bytes: u64) {
        self.lines = line;
        self.bytes = bytes;
    }

    pub(crate) fn message(&mut self, id: &ConversationId) {
        self.messages += 1;
        if self.conversations.len() <= COUNTED {
            self.conversations.insert(self.hasher.hash_one(id));
        }
    }

    pub(crate) fn not_a_message(&mut self) {
        self.not_messages += 1;
    }

    pub(crate) fn reading_failed(&mut self) {
        self.reading_failed = true;
    }

    pub(crate) fn done(&mut self, waited: Duration, ok: bool) {
        self.done += 1;
        self.errors += u64::from(!ok);
        if let Some(histogram) = &mut self.waited {
            let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            // Grows with the largest value, by some kB in all.
            let _ = histogram.record(microseconds);
        }
    }

    pub(crate) fn most_in_progress(&mut self, most: usize) {
        self.most_in_progress = most;
    }

    pub(crate) fn lines_read(&self) -> u64 {
        self.lines
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn messages_done(&self) -> u64 {
        self.done
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    /// Whether every line that was read is a message that was processed.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors == 0 && self.not_messages == 0 && !self.reading_failed
    }

    fn conversations(&self) -> String {
        match self.conversations.len() {
            count if count > COUNTED => format!("more than {COUNTED}"),
            count => count.to_string(),
        }
    }

    #[allow(clippy::cast_precision_loss)] // for people
    fn waited(&self, quantile: f64) -> f64 {
        let microseconds = self
            .waited
            .as_ref()
            .map_or(0, |histogram| histogram.value_at_quantile(quantile));
        microseconds as f64 / 1000.0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.started.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // for people
        let per_second = self.done as f64 / seconds;
        writeln!(f, "messages                     {}", self.messages)?;
        writeln!(f, "conversations                {}", self.conversations())?;
        writeln!(f, "errors                       {}", self.errors)?;
        writeln!(f, "lines that are no messages   {}", self.not_messages)?;
        writeln!(
            f,
            "messages per second          {per_second:.0} ({seconds:.3} s)"
        )?;
        writeln!(
            f,
            "waiting time                 median {:.3} ms, 99th percentile {:.3} ms",
            self.waited(0.5),
            self.waited(0.99)
        )?;
        write!(
            f,
            "most conversations at once   {} in progress",
            self.most_in_progress
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_counted_exactly_up_to_a_bound() {
        let mut tally = Tally::new();
        let mut count_to = |range: std::ops::Range<usize>| {
            for i in range {
                let id = ConversationId::new(i.to_string()).unwrap();
                tally.message(&id);
                tally.message(&id);
            }
            tally.conversations()
        };
        assert_eq!(count_to(0..COUNTED), "262144");
        assert_eq!(count_to(COUNTED..COUNTED + 10), "more than 262144");
    }

    #[test]
    fn waiting_times_are_summed_up() {
        let mut tally = Tally::new();
        for ms in 1..=100 {
            tally.done(Duration::from_millis(ms), ms != 7);
        }
        let text = tally.to_string();
        assert!(text.contains("errors                       1\n"), "{text}");
        assert!((tally.waited(0.5) - 50.0).abs() < 0.1);
        assert!((tally.waited(0.99) - 99.0).abs() < 0.1);
        assert!(!tally.is_clean());
    }
}
