//! What came of it all.

use lock_store::{DeploymentMode, LockStoreConfig, StoreType};

use super::clock::{Nanos, Window};
use super::measured::{Faults, Measured};
use super::plan::{Part, Plan};
use super::sweep::Swept;
use super::times::Times;

/// Everything that is told at the end.
pub(super) struct Results {
    pub(super) plan: Plan,
    pub(super) config: LockStoreConfig,
    /// Where the locks are.
    pub(super) place: String,
    pub(super) round_trips: Times,
    pub(super) one_task: Times,
    pub(super) load: Load,
    pub(super) hand_offs: Times,
    pub(super) faults: Faults,
    /// The signal that ended it early.
    pub(super) interrupted: Option<i32>,
    pub(super) swept: Swept,
}

/// What many tasks did at once.
pub(super) struct Load {
    pub(super) cycles: Times,
    pub(super) intervals: Vec<Interval>,
    /// How long was measured.
    pub(super) length: Nanos,
    /// Cycles of each process.
    pub(super) by_process: Vec<u64>,
}

/// How many cycles ended from `at`, counted from the begin of measuring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub(super) at: Nanos,
    pub(super) length: Nanos,
    pub(super) cycles: u64,
}

impl Results {
    pub(super) fn new(plan: Plan, config: LockStoreConfig, address: Option<String>) -> Self {
        Self {
            place: place(&config, address),
            plan,
            config,
            round_trips: Times::new(),
            one_task: Times::new(),
            load: Load {
                cycles: Times::new(),
                intervals: Vec::new(),
                length: 0,
                by_process: Vec::new(),
            },
            hand_offs: Times::new(),
            faults: Faults::default(),
            interrupted: None,
            swept: Swept::Clean { removed: 0 },
        }
    }

    /// Adds what the processes found in a part that was measured in this time.
    pub(super) fn add(&mut self, part: Part, window: Window, found: Vec<Measured>) {
        let by_process = found.iter().map(|one| one.cycles.count()).collect();
        let mut all = Measured::new();
        for one in found {
            all.merge(one);
        }
        match part {
            Part::OneTask => {
                self.one_task = all.cycles;
                self.round_trips = all.round_trips;
            }
            Part::Load => {
                let length = window.length();
                self.load = Load {
                    intervals: intervals(&all.intervals, self.plan.interval(), length),
                    cycles: all.cycles,
                    length,
                    by_process,
                };
                self.load.forget_unless_measured();
            }
            Part::HandOff => self.hand_offs = all.hand_offs(),
        }
        self.faults.merge(all.faults);
    }

    /// Whether nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.faults.total() == 0 && matches!(self.swept, Swept::Clean { .. })
    }
}

impl Load {
    /// It may end before it begins. What processes do until they hear of that
    /// is done in no time, and is no measurement.
    fn forget_unless_measured(&mut self) {
        if self.length == 0 {
            self.cycles = Times::new();
            self.by_process.fill(0);
        }
    }

    pub(super) fn per_second(&self) -> f64 {
        per_second(self.cycles.count(), self.length)
    }
}

impl Interval {
    pub(super) fn per_second(self) -> f64 {
        per_second(self.cycles, self.length)
    }
}

#[allow(clippy::cast_precision_loss)] // for people
fn per_second(cycles: u64, length: Nanos) -> f64 {
    if length == 0 {
        return 0.0;
    }
    cycles as f64 * 1e9 / length as f64
}

/// All that are in this time, those without a cycle too. A rest that is shorter
/// than half of one is part of the one before.
fn intervals(counted: &[u64], interval: Nanos, measured: Nanos) -> Vec<Interval> {
    let mut all: Vec<Interval> = Vec::new();
    let mut at = 0;
    let mut counts = counted.iter().copied();
    while at < measured {
        let length = interval.min(measured - at);
        let cycles = counts.next().unwrap_or(0);
        match all.last_mut() {
            Some(last) if length < interval / 2 => {
                last.length += length;
                last.cycles += cycles;
            }
            _ => all.push(Interval { at, length, cycles }),
        }
        at += length;
    }
    // What other processes did before they heard of the end.
    if let Some(last) = all.last_mut() {
        last.cycles += counts.sum::<u64>();
    }
    all
}

fn place(config: &LockStoreConfig, address: Option<String>) -> String {
    if config.store_type == StoreType::InMemory {
        return "in memory".into();
    }
    let address = address.unwrap_or_default();
    match config.redis.deployment_mode {
        DeploymentMode::Standard => format!("Redis at {address}"),
        _ => format!("Redis, {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_in_no_time_does_not_count() {
        let mut cycles = Times::new();
        cycles.record(1_000_000);
        let mut load = Load {
            intervals: intervals(&[1], 100, 0),
            cycles,
            length: 0,
            by_process: vec![0, 1],
        };
        load.forget_unless_measured();
        assert!(load.cycles.is_empty() && load.intervals.is_empty());
        assert_eq!(load.by_process, [0, 0]);
    }

    #[test]
    fn every_cycle_is_in_an_interval() {
        let all = intervals(&[5, 0, 7, 1, 2], 100, 320);
        let [first, none, last] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!((first.at, first.length, first.cycles), (0, 100, 5));
        assert_eq!((none.at, none.length, none.cycles), (100, 100, 0));
        assert_eq!((last.at, last.length, last.cycles), (200, 120, 10));
        assert_eq!(intervals(&[], 100, 260).len(), 3);
        assert!(intervals(&[], 100, 0).is_empty());
    }
}
