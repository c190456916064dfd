//! The lines: for each conversation, the entries of this process, and when
//! somebody has to see after them.
//!
//! A line has one alarm, at the earliest moment at which something may be due:
//! a waiter's time is over, or the head of the queue would be dead. When
//! things move to later the alarm stays, rings early once, and is set anew:
//! that is cheaper than moving it with every hand-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use tokio::time::Instant;

use super::Entry;
use crate::alarm::{Alarm, AlarmKey};
use crate::identity::{ConversationId, Owner};
use crate::store::Shared;
use crate::sync::{Mutex, MutexGuard};

const SHARDS: usize = 16;

#[derive(Debug, Default)]
struct Shard {
    lines: Mutex<HashTable<Line>>,
    /// How many owners were called and not found. Raised under the mutex.
    missed_calls: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Lines {
    shards: Box<[Shard]>,
}

#[derive(Debug)]
struct Line {
    id: ConversationId,
    /// By sequence, which is nearly the order of the tickets.
    entries: BTreeMap<u64, Arc<Entry>>,
    /// When the head of the queue would be dead, as far as is known, and when
    /// that was asked.
    look_at: Option<Instant>,
    asked: Option<Instant>,
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
        Self {
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
        }
    }

    /// How many calls found nobody so far, here and in some other lines.
    ///
    /// Whoever is called between being issued a ticket and being added was
    /// missed if the number is higher when it is [added](Self::add) than it
    /// was before it asked for the ticket.
    #[inline]
    pub(crate) fn missed_calls(&self, id: &ConversationId) -> u64 {
        let (_, shard) = id.place(SHARDS);
        self.shards[shard].missed_calls.load(Ordering::Acquire)
    }

    /// Adds an entry; from now on wake-ups find it. Returns the missed calls
    /// until then.
    pub(crate) fn add(
        &self,
        entry: Arc<Entry>,
        head_dies_at: Option<Instant>,
        store: &Shared,
    ) -> u64 {
        let (hash, mut lines) = self.lines_of(&entry.conversation);
        let id = entry.conversation.clone();
        let line = find_or_make(&mut lines, hash, &id);
        if let Some(at) = head_dies_at {
            let at = store.next_look(at);
            line.look_at = Some(at);
            line.ring_by(at, store);
        }
        if let Some(wait_until) = entry.gives_up_at() {
            line.ring_by(wait_until, store);
        }
        line.entries.insert(entry.owner.sequence, entry);
        self.missed_calls(&id)
    }

    /// Finds the entry of an owner whom the storage calls, because its turn
    /// has come or because its ticket is gone; or counts a missed call.
    pub(crate) fn find_called(&self, id: &ConversationId, owner: Owner) -> Option<Arc<Entry>> {
        let (hash, lines) = self.lines_of(id);
        let line = lines.find(hash, |line| line.id == *id);
        let found = line.and_then(|line| line.entries.get(&owner.sequence).cloned());
        if found.is_none() {
            let (_, shard) = id.place(SHARDS);
            self.shards[shard]
                .missed_calls
                .fetch_add(1, Ordering::Release);
        }
        found
    }

    /// Takes an entry out, if it is there.
    pub(crate) fn remove(&self, id: &ConversationId, owner: Owner, store: &Shared) {
        let (hash, mut lines) = self.lines_of(id);
        let Ok(mut found) = lines.find_entry(hash, |line| line.id == *id) else {
            return;
        };
        let line = found.get_mut();
        line.entries.remove(&owner.sequence);
        if line.entries.is_empty() {
            let (line, _) = found.remove();
            drop(lines);
            if let Some(alarm) = line.alarm {
                store.alarms.cancel(alarm);
            }
        }
    }

    pub(crate) fn find(&self, id: &ConversationId, owner: Owner) -> Option<Arc<Entry>> {
        let (hash, lines) = self.lines_of(id);
        let line = lines.find(hash, |line| line.id == *id)?;
        line.entries.get(&owner.sequence).cloned()
    }

    /// The head of the queue would be dead at that time, as was asked then:
    /// somebody of the line has to look. What was asked before something else
    /// that is known can only make it earlier, and a look that is due stays so.
    pub(crate) fn head_dies_at(
        &self,
        id: &ConversationId,
        at: Instant,
        asked: Instant,
        store: &Shared,
    ) {
        let (hash, mut lines) = self.lines_of(id);
        let Some(line) = lines.find_mut(hash, |line| line.id == *id) else {
            return;
        };
        // In here: what is told meanwhile of lost wake-ups comes after it.
        let mut at = store.next_look(at);
        let is_due = line.look_at.is_some_and(|known| known <= Instant::now());
        if is_due || line.asked.is_some_and(|known| known > asked) {
            at = line.look_at.map_or(at, |known| known.min(at));
        } else {
            line.asked = Some(asked);
        }
        line.look_at = Some(at);
        line.ring_by(at, store);
    }

    /// The ticket of `entry` is there: from now on it may give up waiting.
    pub(crate) fn is_issued(&self, entry: &Entry, store: &Shared) {
        let Some(gives_up_at) = entry.gives_up_at() else {
            return;
        };
        let (hash, mut lines) = self.lines_of(&entry.conversation);
        if let Some(line) = lines.find_mut(hash, |line| line.id == entry.conversation) {
            line.ring_by(gives_up_at, store);
        }
    }

    /// In every line somebody looks by that time.
    pub(crate) fn look_by(&self, by: Instant, store: &Shared) {
        for shard in &self.shards {
            for line in shard.lines.lock().iter_mut() {
                line.look_at = Some(line.look_at.map_or(by, |at| at.min(by)));
                line.ring_by(by, store);
            }
        }
    }

    /// The first waiter of every line.
    pub(crate) fn first_waiters(&self) -> Vec<Arc<Entry>> {
        let first = |shard: &Shard| -> Vec<_> {
            shard
                .lines
                .lock()
                .iter()
                .filter_map(Line::first_waiter)
                .collect()
        };
        self.shards.iter().flat_map(first).collect()
    }

    /// Everybody who is in line.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for line in shard.lines.lock().iter() {
                all.extend(line.entries.values().cloned());
            }
        }
        all
    }

    /// Takes what is due at `now`, and sets the alarm for what comes next.
    pub(crate) fn due(&self, id: &ConversationId, now: Instant, store: &Shared) -> Due {
        let (hash, mut lines) = self.lines_of(id);
        let mut due = Due::default();
        let Ok(mut found) = lines.find_entry(hash, |line| line.id == *id) else {
            return due;
        };
        let line = found.get_mut();
        line.alarm = None;
        let mut next = None;
        for entry in line.entries.values() {
            match entry.gives_up_at() {
                Some(until) if until <= now => due.timed_out.push(entry.clone()),
                Some(until) => next = Some(next.map_or(until, |next: Instant| next.min(until))),
                None => {}
            }
        }
        if line.look_at.is_some_and(|at| at <= now) {
            // The answer to the look says when to look next.
            line.look_at = None;
            due.look = line.first_waiter();
        }
        let look_at = line.look_at.filter(|_| line.first_waiter().is_some());
        if let Some(next) = next.into_iter().chain(look_at).min() {
            line.ring_by(next, store);
        }
        due
    }

    fn lines_of(&self, id: &ConversationId) -> (u64, MutexGuard<'_, HashTable<Line>>) {
        let (hash, shard) = id.place(SHARDS);
        (hash, self.shards[shard].lines.lock())
    }
}

fn find_or_make<'l>(
    lines: &'l mut HashTable<Line>,
    hash: u64,
    id: &ConversationId,
) -> &'l mut Line {
    let make = || Line {
        id: id.clone(),
        entries: BTreeMap::new(),
        look_at: None,
        asked: None,
        alarm: None,
    };
    let found = lines.entry(hash, |line| line.id == *id, |line| line.id.hash());
    found.or_insert_with(make).into_mut()
}

impl Line {
    /// The first whose ticket is there. To look at one that is only asked for
    /// could come before it is issued, and find it gone.
    fn first_waiter(&self) -> Option<Arc<Entry>> {
        let waiting = self.entries.values().filter(|entry| entry.is_waiting());
        // Not by number: numbers begin anew when a storage lost its data.
        waiting.min_by_key(|entry| entry.fencing_token()).cloned()
    }

    /// Sees to it that the alarm rings at that time or before.
    fn ring_by(&mut self, at: Instant, store: &Shared) {
        if let Some(set) = self.alarm {
            if set.at <= at {
                return;
            }
            store.alarms.cancel(set);
        }
        self.alarm = Some(
            store
                .alarms
                .set(at, Alarm::Look(self.id.clone()), &store.me),
        );
    }
}
