//! What is to be measured.

use std::time::Duration;

use lock_store::ClientId;
use serde::{Deserialize, Serialize};

use super::clock::{Nanos, nanos};
use crate::args::BenchArgs;

/// How many hand-offs are measured at most: the memory that they need is far
/// less than what would be noticed, and more would say no more.
pub(super) const HAND_OFFS: usize = 200_000;

/// About so many points has the line of cycles per second.
const POINTS: u64 = 60;

/// The same for all processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    /// What the conversations of this run begin with.
    pub(super) name: String,
    /// In each process.
    pub(super) tasks: usize,
    /// In all.
    pub(super) conversations: usize,
    /// In all.
    pub(super) waiters: usize,
    pub(super) processes: usize,
    pub(super) length: Duration,
    pub(super) warm_up: Duration,
}

/// What is measured one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    OneTask,
    Load,
    HandOff,
}

impl Plan {
    pub(super) fn new(args: &BenchArgs) -> Self {
        let (tasks, processes) = (args.tasks as usize, args.processes as usize);
        let conversations = args.conversations.map(|count| count as usize);
        Self {
            name: format!("lock-store-bench-{:016x}", ClientId::random().as_u64()),
            tasks,
            conversations: conversations.unwrap_or(tasks * processes),
            waiters: args.waiters as usize,
            processes,
            length: args.seconds,
            warm_up: args.warm_up,
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let hands_on = self.waiters > 0;
        [Part::OneTask, Part::Load, Part::HandOff]
            .into_iter()
            .filter(move |part| *part != Part::HandOff || hands_on)
    }

    pub(super) fn all_tasks(&self) -> usize {
        self.tasks * self.processes
    }

    /// Whether tasks wait for each other.
    pub(super) fn is_contended(&self) -> bool {
        self.conversations < self.all_tasks()
    }

    /// Cycles are counted in intervals of this length: 1, 2 or 5 times a power
    /// of ten.
    pub(super) fn interval(&self) -> Nanos {
        let least = nanos(self.length) / POINTS;
        let mut interval = 1_000_000;
        for factor in [2, 5, 10].into_iter().cycle() {
            if interval >= least {
                break;
            }
            interval = match factor {
                5 => interval / 2 * 5,
                _ => interval * 2,
            };
        }
        interval
    }

    pub(super) fn one_task(&self) -> String {
        format!("{}-one", self.name)
    }

    pub(super) fn line(&self) -> String {
        format!("{}-line", self.name)
    }

    fn conversation(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// Those that a task, of all processes, goes through.
    pub(super) fn conversations_of(&self, task: usize) -> Vec<String> {
        if self.conversations <= self.all_tasks() {
            return vec![self.conversation(task % self.conversations)];
        }
        (task..self.conversations)
            .step_by(self.all_tasks())
            .map(|number| self.conversation(number))
            .collect()
    }

    /// All that may be locked.
    pub(super) fn all_conversations(&self) -> impl Iterator<Item = String> {
        let numbered = (0..self.conversations).map(|number| self.conversation(number));
        [self.one_task(), self.line()].into_iter().chain(numbered)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(tasks: usize, processes: usize, conversations: usize) -> Plan {
        Plan {
            name: "x".into(),
            tasks,
            conversations,
            waiters: 0,
            processes,
            length: Duration::from_secs(5),
            warm_up: Duration::ZERO,
        }
    }

    #[test]
    fn tasks_share_conversations_only_if_there_are_too_few() {
        for (conversations, shared) in [(8, false), (20, false), (3, true), (1, true)] {
            let plan = plan(4, 2, conversations);
            assert_eq!(plan.is_contended(), shared);
            let all: Vec<_> = (0..8)
                .flat_map(|task| plan.conversations_of(task))
                .collect();
            let different: HashSet<_> = all.iter().collect();
            assert_eq!(different.len(), conversations);
            assert_eq!(all.len() > different.len(), shared);
            let known: HashSet<_> = plan.all_conversations().collect();
            assert!(all.iter().all(|id| known.contains(id)));
        }
    }

    #[test]
    fn intervals_are_round_and_not_too_many() {
        for (ms, interval_ms) in [(10, 1), (100, 2), (200, 5), (1_000, 20), (5_000, 100)] {
            let mut plan = plan(1, 1, 1);
            plan.length = Duration::from_millis(ms);
            assert_eq!(plan.interval(), interval_ms * 1_000_000, "{ms} ms");
        }
    }
}
