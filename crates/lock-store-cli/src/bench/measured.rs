//! What one process has measured in one part.

use std::collections::BTreeMap;

use lock_store::LockError;
use serde::{Deserialize, Serialize};

use super::clock::Nanos;
use super::times::Times;

/// What is not measured in a part stays empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Of each cycle: a lock and its release.
    pub(super) cycles: Times,
    /// Cycles in each interval.
    pub(super) intervals: Vec<u64>,
    pub(super) round_trips: Times,
    pub(super) turns: Vec<Turn>,
    pub(super) faults: Faults,
}

/// Somebody's turn in the line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Turn {
    /// Rises along the line.
    pub(super) token: u64,
    /// The next one's is one more, unless somebody in between left.
    pub(super) number: u64,
    /// When it was in line.
    pub(super) in_line: Nanos,
    /// When it ran.
    pub(super) ran: Nanos,
    /// When it began to give the lock on.
    pub(super) released: Nanos,
}

/// What went wrong, by its kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Faults(BTreeMap<String, Fault>);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) count: u64,
    /// The text of the first one.
    pub(super) example: String,
}

impl Measured {
    pub(super) fn new() -> Self {
        Self {
            cycles: Times::new(),
            intervals: Vec::new(),
            round_trips: Times::new(),
            turns: Vec::new(),
            faults: Faults::default(),
        }
    }

    pub(super) fn cycle(&mut self, time: Nanos, interval: usize) {
        self.cycles.record(time);
        if self.intervals.len() <= interval {
            self.intervals.resize(interval + 1, 0);
        }
        self.intervals[interval] += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.cycles.merge(&other.cycles);
        let longer = self.intervals.len().max(other.intervals.len());
        self.intervals.resize(longer, 0);
        for (sum, more) in self.intervals.iter_mut().zip(other.intervals) {
            *sum += more;
        }
        self.round_trips.merge(&other.round_trips);
        self.turns.extend(other.turns);
        self.faults.merge(other.faults);
    }

    /// From before a release until the next one ran, of all turns in whichever
    /// process: only where the next one was in line already, and nobody between
    /// them had left.
    pub(super) fn hand_offs(&self) -> Times {
        let mut turns = self.turns.clone();
        turns.sort_unstable_by_key(|turn| turn.token);
        let mut times = Times::new();
        for pair in turns.windows(2) {
            let (before, next) = (pair[0], pair[1]);
            if next.number == before.number + 1 && next.in_line <= before.released {
                times.record(next.ran.saturating_sub(before.released));
            }
        }
        times
    }
}

impl Faults {
    pub(super) fn add(&mut self, error: &LockError) {
        self.add_all(error.kind().as_str(), 1, error);
    }

    pub(super) fn add_all(&mut self, kind: &str, count: u64, example: &impl ToString) {
        let fault = self.0.entry(kind.to_owned()).or_insert_with(|| Fault {
            count: 0,
            example: example.to_string(),
        });
        fault.count += count;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (kind, Fault { count, example }) in other.0 {
            self.add_all(&kind, count, &example);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|fault| fault.count).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.0.iter().map(|(kind, fault)| (kind.as_str(), fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_offs_go_between_those_who_were_in_line() {
        let turn = |token, number, in_line, ran, released| Turn {
            token,
            number,
            in_line,
            ran,
            released,
        };
        let mut measured = Measured::new();
        // From two processes, in no order.
        measured.turns = vec![
            turn(12, 2, 90, 310, 350),
            turn(10, 0, 0, 100, 200),
            // Came when the one before had gone, in a new queue.
            turn(13, 0, 400, 405, 450),
            turn(11, 1, 50, 230, 300),
            // Somebody between them left.
            turn(15, 2, 420, 500, 510),
            // Was not in line in time.
            turn(16, 3, 515, 520, 530),
        ];
        let times: Vec<_> = measured.hand_offs().counts().collect();
        assert_eq!(times, [(10, 1), (30, 1)]);
    }
}
