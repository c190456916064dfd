//! The lines: for each conversation, the entries of this process, and when
//! somebody has to see after them.
//!
//! A line has one alarm, at the earliest moment at which something may be due:
//! a waiter's time is over, or the head of the queue would be dead. When
//! things move to later the alarm stays, rings early once, and is set anew:
//! that is cheaper than moving it with every hand-off.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use tokio::time::Instant;

use super::Entry;
use crate::alarm::{Alarm, AlarmKey};
use crate::identity::{ConversationId, Owner};
use crate::store::Shared;
use crate::sync::Mutex;

const SHARDS: usize = 16;

type Shard = Mutex<HashMap<ConversationId, Line, RandomState>>;

#[derive(Debug)]
pub(crate) struct Lines {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Line {
    /// By sequence, which is nearly the order of the tickets.
    entries: BTreeMap<u64, Arc<Entry>>,
    /// When the head of the queue would be dead, as far as is known.
    look_at: Option<Instant>,
    alarm: Option<AlarmKey>,
}

/// What is due in a line.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) timed_out: Vec<Arc<Entry>>,
    pub(crate) look: Option<Arc<Entry>>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        let hasher = RandomState::new();
        let shard = || Mutex::new(HashMap::with_hasher(hasher.clone()));
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher,
        }
    }

    /// Adds an entry; from now on wake-ups find it.
    pub(crate) fn add(&self, entry: Arc<Entry>, store: &Shared) {
        let mut lines = self.shard(&entry.conversation).lock();
        let id = entry.conversation.clone();
        let line = lines.entry(id.clone()).or_default();
        let wait_until = entry.wait_until.filter(|_| entry.is_waiting());
        line.entries.insert(entry.owner.sequence, entry);
        if let Some(wait_until) = wait_until {
            line.ring_by(wait_until, &id, store);
        }
    }

    /// Takes an entry out, if it is there.
    pub(crate) fn remove(&self, id: &ConversationId, owner: Owner, store: &Shared) {
        let mut lines = self.shard(id).lock();
        let Some(line) = lines.get_mut(id) else {
            return;
        };
        line.entries.remove(&owner.sequence);
        if line.entries.is_empty() {
            let alarm = line.alarm;
            lines.remove(id);
            drop(lines);
            if let Some(alarm) = alarm {
                store.alarms.cancel(alarm);
            }
        }
    }

    pub(crate) fn find(&self, id: &ConversationId, owner: Owner) -> Option<Arc<Entry>> {
        let lines = self.shard(id).lock();
        lines.get(id)?.entries.get(&owner.sequence).cloned()
    }

    /// The head of the queue would be dead at that time: somebody of the line
    /// has to look then.
    pub(crate) fn head_dies_at(&self, id: &ConversationId, at: Instant, store: &Shared) {
        let at = store.next_look(at);
        let mut lines = self.shard(id).lock();
        if let Some(line) = lines.get_mut(id) {
            line.look_at = Some(at);
            line.ring_by(at, id, store);
        }
    }

    /// In every line somebody looks by that time.
    pub(crate) fn look_by(&self, by: Instant, store: &Shared) {
        for shard in &self.shards {
            for (id, line) in shard.lock().iter_mut() {
                line.look_at = Some(line.look_at.map_or(by, |at| at.min(by)));
                line.ring_by(by, id, store);
            }
        }
    }

    /// The first waiter of every line.
    pub(crate) fn first_waiters(&self) -> Vec<Arc<Entry>> {
        let first = |shard: &Shard| -> Vec<_> {
            shard
                .lock()
                .values()
                .filter_map(Line::first_waiter)
                .collect()
        };
        self.shards.iter().flat_map(first).collect()
    }

    /// Takes what is due at `now`, and sets the alarm for what comes next.
    pub(crate) fn due(&self, id: &ConversationId, now: Instant, store: &Shared) -> Due {
        let mut lines = self.shard(id).lock();
        let mut due = Due::default();
        let Some(line) = lines.get_mut(id) else {
            return due;
        };
        line.alarm = None;
        let mut next = None;
        for entry in line.entries.values().filter(|entry| entry.is_waiting()) {
            match entry.wait_until {
                Some(until) if until <= now => due.timed_out.push(entry.clone()),
                Some(until) => next = Some(next.map_or(until, |next: Instant| next.min(until))),
                None => {}
            }
        }
        for entry in &due.timed_out {
            line.entries.remove(&entry.owner.sequence);
        }
        if line.look_at.is_some_and(|at| at <= now) {
            // The answer to the look says when to look next.
            line.look_at = None;
            due.look = line.first_waiter();
        }
        let next = next.into_iter().chain(line.look_at).min();
        if let Some(next) = next.filter(|_| line.first_waiter().is_some()) {
            line.ring_by(next, id, store);
        }
        if line.entries.is_empty() {
            lines.remove(id);
        }
        due
    }

    /// How many entries there are in all.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let count = |shard: &Shard| {
            shard
                .lock()
                .values()
                .map(|l| l.entries.len())
                .sum::<usize>()
        };
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, id: &ConversationId) -> &Shard {
        #[allow(clippy::cast_possible_truncation)] // a few bits are wanted
        let index = (self.hasher.hash_one(id.as_str()) >> 32) as usize % SHARDS;
        &self.shards[index]
    }
}

impl Line {
    fn first_waiter(&self) -> Option<Arc<Entry>> {
        let waiting = self.entries.values().filter(|entry| entry.is_waiting());
        waiting.min_by_key(|entry| entry.number()).cloned()
    }

    /// Sees to it that the alarm rings at that time or before.
    fn ring_by(&mut self, at: Instant, id: &ConversationId, store: &Shared) {
        if let Some(set) = self.alarm {
            if set.at <= at {
                return;
            }
            store.alarms.cancel(set);
        }
        self.alarm = Some(store.alarms.set(at, Alarm::Look(id.clone()), &store.me));
    }
}
