//! The lines: for each conversation, the acquisitions of this process, and when
//! its line has to be checked.
//!
//! A line has one timer, at the earliest moment at which something may be due: a
//! waiter's time is over, or the head of the queue would be dead. When things
//! move to later the timer stays, fires early once, and is set anew: that is
//! cheaper than moving it with every hand-off.
//!
//! Lock order: a shard of the lines, then an acquisition, or the timers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashTable;
use tokio::time::Instant;

use crate::acquisition::Acquisition;
use crate::engine::{Engine, Leaving};
use crate::identity::{ConversationId, Owner};
use crate::sync::{Mutex, MutexGuard};
use crate::timers::{Timer, TimerKey};

const SHARDS: usize = 16;

/// So many are looked at to find the next ticket: tickets of one process are
/// mostly asked for in the order of their numbers.
const NEIGHBOURS: usize = 8;

#[derive(Debug, Default)]
struct Shard {
    lines: Mutex<HashTable<Line>>,
    /// How many owners were called and not found. Raised under the mutex.
    missed_calls: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Lines {
    shards: Box<[Shard]>,
    /// How many lines there are: mostly none, and that is known without a lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Line {
    id: ConversationId,
    /// By sequence, which is nearly the order of the tickets.
    acquisitions: BTreeMap<u64, Arc<Acquisition>>,
    /// When the head of the queue would be dead, as far as is known, and when
    /// that was asked.
    check_at: Option<Instant>,
    asked: Option<Instant>,
    timer: Option<TimerKey>,
    /// Whether an advance is under way: it tells the storage of the locks that
    /// were handed over here.
    is_advancing: bool,
}

/// What is due in a line.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) timed_out: Vec<Arc<Acquisition>>,
    pub(crate) check: Option<Arc<Acquisition>>,
}

/// What a release comes to.
#[derive(Debug)]
pub(crate) enum Released {
    /// The next ticket, which has the lock now. The storage has to be told if
    /// `advance`: else an advance is under way already.
    HandedOver {
        next: Arc<Acquisition>,
        advance: bool,
    },
    /// The storage has to be told.
    Finish,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
            count: AtomicUsize::new(0),
        }
    }

    /// How many calls found no acquisition so far, here and in some other lines.
    ///
    /// An owner that is called between being issued a ticket and being added was
    /// missed if the number is higher when it is [added](Self::add) than it was
    /// before it asked for the ticket.
    #[inline]
    pub(crate) fn missed_calls(&self, id: &ConversationId) -> u64 {
        let (_, shard) = id.place(SHARDS);
        self.shards[shard].missed_calls.load(Ordering::Acquire)
    }

    /// Adds an acquisition; from now on wake-ups find it. Returns the missed
    /// calls until then.
    pub(crate) fn add(
        &self,
        acquisition: Arc<Acquisition>,
        head_dies_at: Option<Instant>,
        engine: &Engine,
    ) -> u64 {
        let id = acquisition.ticket.conversation.clone();
        let (hash, mut lines) = self.lines_of(&id);
        let line = self.find_or_make(&mut lines, hash, &id);
        if let Some(at) = head_dies_at {
            let mut at = engine.next_check(at);
            // A check that is due stays so.
            if let Some(due) = line.check_at.filter(|known| *known <= Instant::now()) {
                at = at.min(due);
            }
            line.check_at = Some(at);
            line.fire_by(at, engine);
        }
        if let Some(wait_until) = acquisition.gives_up_at() {
            line.fire_by(wait_until, engine);
        }
        let sequence = acquisition.ticket.owner.sequence;
        line.acquisitions.insert(sequence, acquisition);
        self.missed_calls(&id)
    }

    /// Finds the acquisition of an owner that the storage calls, because its turn
    /// has come or because its ticket is gone; or counts a missed call.
    pub(crate) fn find_called(
        &self,
        id: &ConversationId,
        owner: Owner,
    ) -> Option<Arc<Acquisition>> {
        let (hash, lines) = self.lines_of(id);
        let line = lines.find(hash, |line| line.id == *id);
        let found = line.and_then(|line| line.acquisitions.get(&owner.sequence).cloned());
        if found.is_none() {
            let (_, shard) = id.place(SHARDS);
            self.shards[shard]
                .missed_calls
                .fetch_add(1, Ordering::Release);
        }
        found
    }

    pub(crate) fn find(&self, id: &ConversationId, owner: Owner) -> Option<Arc<Acquisition>> {
        let (hash, lines) = self.lines_of(id);
        let line = lines.find(hash, |line| line.id == *id)?;
        line.acquisitions.get(&owner.sequence).cloned()
    }

    /// Takes an acquisition out, if it is there.
    pub(crate) fn remove(&self, acquisition: &Acquisition, engine: &Engine) {
        let id = &acquisition.ticket.conversation;
        let (hash, mut lines) = self.lines_of(id);
        let Ok(mut found) = lines.find_entry(hash, |line| line.id == *id) else {
            return;
        };
        let line = found.get_mut();
        line.acquisitions.remove(&acquisition.ticket.owner.sequence);
        if line.acquisitions.is_empty() {
            let (line, _) = found.remove();
            self.ended(&line, lines, engine);
        }
    }

    /// A ticket is given back: takes it out, and hands the lock over to the
    /// ticket that follows, if that one is here, on the lease until
    /// `hand_over_until`.
    pub(crate) fn release(
        &self,
        leaving: &Leaving,
        hand_over_until: Option<Instant>,
        engine: &Engine,
    ) -> Released {
        if self.count.load(Ordering::Acquire) == 0 {
            return Released::Finish;
        }
        let id = &leaving.conversation;
        let (hash, mut lines) = self.lines_of(id);
        let Ok(mut found) = lines.find_entry(hash, |line| line.id == *id) else {
            return Released::Finish;
        };
        let line = found.get_mut();
        line.acquisitions.remove(&leaving.owner.sequence);
        if let Some(until) = hand_over_until
            && let Some(next) = line.hand_over(leaving, until)
        {
            let advance = !std::mem::replace(&mut line.is_advancing, true);
            return Released::HandedOver { next, advance };
        }
        if line.acquisitions.is_empty() {
            let (line, _) = found.remove();
            self.ended(&line, lines, engine);
        }
        Released::Finish
    }

    /// The advance of a conversation is over, or one that failed begins again.
    /// Returns who has the lock without the storage knowing, and so needs the
    /// next advance, which is under way from now on.
    pub(crate) fn next_advance(&self, id: &ConversationId) -> Option<Arc<Acquisition>> {
        let (hash, mut lines) = self.lines_of(id);
        let line = lines.find_mut(hash, |line| line.id == *id)?;
        let next = line.handed_over();
        line.is_advancing = next.is_some();
        next
    }

    /// The advance of a conversation failed, and is tried again later, for the
    /// acquisition that is returned.
    pub(crate) fn advance_failed(&self, id: &ConversationId) -> Option<Arc<Acquisition>> {
        let (hash, mut lines) = self.lines_of(id);
        let line = lines.find_mut(hash, |line| line.id == *id)?;
        line.is_advancing = false;
        line.handed_over()
    }

    /// The head of the queue would be dead at that time, as was asked then: the
    /// line has to be checked. What was asked before something else that is known
    /// can only make it earlier, and a check that is due stays so.
    pub(crate) fn head_dies_at(
        &self,
        id: &ConversationId,
        at: Instant,
        asked: Instant,
        engine: &Engine,
    ) {
        let (hash, mut lines) = self.lines_of(id);
        let Some(line) = lines.find_mut(hash, |line| line.id == *id) else {
            return;
        };
        // In here: what is told meanwhile of lost wake-ups comes after it.
        let mut at = engine.next_check(at);
        let is_due = line.check_at.is_some_and(|known| known <= Instant::now());
        if is_due || line.asked.is_some_and(|known| known > asked) {
            at = line.check_at.map_or(at, |known| known.min(at));
        } else {
            line.asked = Some(asked);
        }
        line.check_at = Some(at);
        line.fire_by(at, engine);
    }

    /// Every line is checked by that time.
    pub(crate) fn check_by(&self, by: Instant, engine: &Engine) {
        for shard in &self.shards {
            for line in shard.lines.lock().iter_mut() {
                line.check_at = Some(line.check_at.map_or(by, |at| at.min(by)));
                line.fire_by(by, engine);
            }
        }
    }

    /// Every line gets its timer anew, for now: those that were set are gone.
    pub(crate) fn fire_all(&self, engine: &Engine) {
        let now = Instant::now();
        for shard in &self.shards {
            for line in shard.lines.lock().iter_mut() {
                line.timer = None;
                line.fire_by(now, engine);
            }
        }
    }

    /// The first waiter of every line.
    pub(crate) fn first_waiters(&self) -> Vec<Arc<Acquisition>> {
        let first = |shard: &Shard| -> Vec<_> {
            let lines = shard.lines.lock();
            lines.iter().filter_map(Line::first_waiter).collect()
        };
        self.shards.iter().flat_map(first).collect()
    }

    /// All that are in line.
    pub(crate) fn all(&self) -> Vec<Arc<Acquisition>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for line in shard.lines.lock().iter() {
                all.extend(line.acquisitions.values().cloned());
            }
        }
        all
    }

    /// Takes what is due at `now`, and sets the timer for what comes next.
    pub(crate) fn due(&self, id: &ConversationId, now: Instant, engine: &Engine) -> Due {
        let (hash, mut lines) = self.lines_of(id);
        let mut due = Due::default();
        let Some(line) = lines.find_mut(hash, |line| line.id == *id) else {
            return due;
        };
        line.timer = None;
        let mut next = None;
        for acquisition in line.acquisitions.values() {
            match acquisition.gives_up_at() {
                Some(until) if until <= now => due.timed_out.push(acquisition.clone()),
                Some(until) => next = Some(next.map_or(until, |next: Instant| next.min(until))),
                None => {}
            }
        }
        if line.check_at.is_some_and(|at| at <= now) {
            // The answer to the check says when to check next.
            line.check_at = None;
            due.check = line.first_waiter();
        }
        let check_at = line.check_at.filter(|_| line.first_waiter().is_some());
        if let Some(next) = next.into_iter().chain(check_at).min() {
            line.fire_by(next, engine);
        }
        due
    }

    fn lines_of(&self, id: &ConversationId) -> (u64, MutexGuard<'_, HashTable<Line>>) {
        let (hash, shard) = id.place(SHARDS);
        (hash, self.shards[shard].lines.lock())
    }

    fn find_or_make<'l>(
        &self,
        lines: &'l mut HashTable<Line>,
        hash: u64,
        id: &ConversationId,
    ) -> &'l mut Line {
        let make = || {
            self.count.fetch_add(1, Ordering::AcqRel);
            Line {
                id: id.clone(),
                acquisitions: BTreeMap::new(),
                check_at: None,
                asked: None,
                timer: None,
                is_advancing: false,
            }
        };
        let found = lines.entry(hash, |line| line.id == *id, |line| line.id.hash());
        found.or_insert_with(make).into_mut()
    }

    fn ended(&self, line: &Line, lines: MutexGuard<'_, HashTable<Line>>, engine: &Engine) {
        drop(lines);
        self.count.fetch_sub(1, Ordering::AcqRel);
        if let Some(timer) = line.timer {
            engine.timers.cancel(timer);
        }
    }
}

impl Line {
    /// Hands the lock, held until `until`, to the ticket that was issued right
    /// behind it in the same queue: its number follows, and it knows the token.
    /// So no ticket is between them.
    fn hand_over(&self, leaving: &Leaving, until: Instant) -> Option<Arc<Acquisition>> {
        let number = leaving.number?;
        let behind = self.acquisitions.range(leaving.owner.sequence..);
        let mut behind = behind.take(NEIGHBOURS);
        let follows = |next: &Acquisition| {
            next.ticket.number == number + 1 && next.ticket.behind == leaving.fencing_token
        };
        let (_, next) = behind.find(|(_, next)| follows(next))?;
        let first_finished = leaving.first_finished.unwrap_or(number);
        let is_theirs = next.hand_over(Instant::now(), until, first_finished);
        is_theirs.then(|| next.clone())
    }

    /// The holder that the storage does not know of.
    fn handed_over(&self) -> Option<Arc<Acquisition>> {
        let mut all = self.acquisitions.values();
        all.find(|acquisition| acquisition.is_handed_over())
            .cloned()
    }

    /// The first that waits.
    fn first_waiter(&self) -> Option<Arc<Acquisition>> {
        let waiting = self.acquisitions.values().filter(|it| it.is_waiting());
        // Not by number: numbers begin anew when a storage lost its data.
        waiting.min_by_key(|it| it.ticket.fencing_token).cloned()
    }

    /// Sees to it that the timer fires at that time or before.
    fn fire_by(&mut self, at: Instant, engine: &Engine) {
        if let Some(set) = self.timer {
            if set.at <= at {
                return;
            }
            engine.timers.cancel(set);
        }
        self.timer = Some(engine.set_timer(at, Timer::Line(self.id.clone())));
    }
}
