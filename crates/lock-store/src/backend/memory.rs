//! The storage of one process: a sharded map of [`TicketLock`]s.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Weak;

use ahash::RandomState;
use futures_util::stream;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, Issue, Issued, Listener, Step, WakeUp,
};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::identity::{ClientId, ConversationId, FencingToken};
use crate::sync::{Mutex, MutexGuard};
use crate::telemetry;
use crate::ticket::{Changes, Ticket, TicketLock};
use crate::time::{SteadyClock, Timestamp};

/// Enough that a handful of threads seldom meet in one.
const SHARDS: usize = 64;

/// Emptied queues that a shard keeps, so that the next lock allocates none.
const SPARE_QUEUES: usize = 16;
const SPARE_CAPACITY: usize = 64;

/// Locks in the memory of one process.
///
/// Several [`LockStore`](crate::LockStore)s may share one through an `Arc`;
/// each is then a client of its own.
///
/// ```
/// use std::sync::Arc;
/// use lock_store::{InMemoryLockStore, LockStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// let memory = Arc::new(InMemoryLockStore::new());
/// let (one, other) = (LockStore::new(memory.clone()), LockStore::new(memory));
/// let _guard = one.lock("conversation-42").await?;
/// assert!(other.try_lock("conversation-42").await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct InMemoryLockStore {
    shards: Box<[Shard]>,
    hasher: RandomState,
    clock: SteadyClock,
    listeners: Mutex<HashMap<ClientId, Weak<dyn Listener>>>,
}

/// Apart by more than a cache line, so that threads in neighbouring shards do
/// not slow each other.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    by_id: HashTable<TicketLock>,
    /// The highest token of all queues that were deleted: a new queue goes on
    /// from there, however fast they come and go.
    last_token: FencingToken,
    spare: Vec<VecDeque<Ticket>>,
}

impl InMemoryLockStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
            hasher: RandomState::new(),
            clock: SteadyClock::new(),
            listeners: Mutex::default(),
        }
    }

    /// How many conversations have a lock.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.0.lock().by_id.len()).sum()
    }

    /// Whether no conversation has a lock.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs a transition on an existing queue, and deletes the queue when it
    /// is empty afterwards.
    fn step<T>(
        &self,
        id: &ConversationId,
        transition: impl FnOnce(&mut TicketLock, Timestamp, &mut Changes) -> T,
    ) -> Option<T> {
        let now = self.clock.now();
        let (hash, mut queues) = self.queues_of(id);
        let mut found = queues
            .by_id
            .find_entry(hash, |lock| lock.conversation_id() == id)
            .ok()?;
        let mut changes = Changes::default();
        let result = transition(found.get_mut(), now, &mut changes);
        if found.get().is_empty() {
            let (lock, _) = found.remove();
            queues.discard(lock);
            telemetry::deleted(id);
        }
        drop(queues);
        self.tell(id, changes);
        Some(result)
    }

    fn queues_of(&self, id: &ConversationId) -> (u64, MutexGuard<'_, Queues>) {
        let hash = self.hasher.hash_one(id.as_str());
        // The table takes the lowest and the highest bits.
        #[allow(clippy::cast_possible_truncation)] // a few bits are wanted
        let shard = (hash >> 32) as usize % SHARDS;
        (hash, self.shards[shard].0.lock())
    }

    fn tell(&self, id: &ConversationId, changes: Changes) {
        if !changes.expired.is_empty() {
            telemetry::expired(id, &changes);
        }
        for ticket in changes.expired.into_iter().chain(changes.abandoned) {
            self.tell_gone(id, &ticket);
        }
        if let Some(owner) = changes.wake {
            let conversation = id.clone();
            self.send(
                owner.client,
                WakeUp::Turn {
                    conversation,
                    owner,
                },
            );
        }
    }

    fn tell_gone(&self, id: &ConversationId, ticket: &Ticket) {
        if let Some(owner) = ticket.owner {
            let conversation = id.clone();
            self.send(
                owner.client,
                WakeUp::Gone {
                    conversation,
                    owner,
                },
            );
        }
    }

    fn send(&self, client: ClientId, event: WakeUp) {
        let listener = self.listeners.lock().get(&client).and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.wake_up(event);
        }
    }
}

impl Queues {
    fn find_or_make(
        &mut self,
        hash: u64,
        id: &ConversationId,
        hasher: &RandomState,
    ) -> &mut TicketLock {
        let found = self.by_id.entry(
            hash,
            |lock| lock.conversation_id() == id,
            |lock| hasher.hash_one(lock.conversation_id().as_str()),
        );
        match found {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let tickets = self.spare.pop().unwrap_or_default();
                let lock = TicketLock::resumed(id.clone(), tickets, self.last_token);
                place.insert(lock).into_mut()
            }
        }
    }

    fn discard(&mut self, lock: TicketLock) {
        self.last_token = self.last_token.max(lock.last_token());
        let mut tickets = lock.into_tickets();
        if self.spare.len() < SPARE_QUEUES && tickets.capacity() <= SPARE_CAPACITY {
            tickets.clear();
            self.spare.push(tickets);
        }
    }
}

impl Backend for InMemoryLockStore {
    fn issue(&self, issue: &Issue) -> Step<Issued> {
        let id = &issue.conversation;
        let now = self.clock.now();
        let mut changes = Changes::default();
        let (hash, mut queues) = self.queues_of(id);
        let issued = queues
            .find_or_make(hash, id, &self.hasher)
            .issue(issue, now, &mut changes);
        drop(queues);
        self.tell(id, changes);
        Step::ready(issued)
    }

    fn claim(&self, claim: &Claim) -> Step<Claimed> {
        let claimed = self.step(&claim.conversation, |lock, now, changes| {
            lock.claim(claim, now, changes)
        });
        Step::ready(claimed.unwrap_or(Claimed::Gone))
    }

    fn finish(&self, finish: &Finish) -> Step<Finished> {
        let finished = self.step(&finish.conversation, |lock, now, changes| {
            lock.finish(finish, now, changes)
        });
        Step::ready(finished.unwrap_or(Finished { found: false }))
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        let (hash, queues) = self.queues_of(id);
        let lock = queues.by_id.find(hash, |lock| lock.conversation_id() == id);
        Step::ready(lock.cloned())
    }

    fn put(&self, mut lock: TicketLock) -> Step<()> {
        let id = lock.conversation_id().clone();
        let now = self.clock.now();
        let mut changes = Changes::default();
        lock.drop_dead_heads(now, DEFAULT_CLAIM_WINDOW, &mut changes);
        let kept: Vec<_> = lock.tickets().map(|ticket| ticket.owner).collect();

        let (hash, mut queues) = self.queues_of(&id);
        let old = match queues
            .by_id
            .find_entry(hash, |l| *l.conversation_id() == id)
        {
            Ok(found) => Some(found.remove().0),
            Err(_) => None,
        };
        queues.last_token = queues.last_token.max(lock.last_token());
        if !lock.is_empty() {
            queues.by_id.insert_unique(hash, lock, |lock| {
                self.hasher.hash_one(lock.conversation_id().as_str())
            });
        }
        drop(queues);

        for ticket in old.iter().flat_map(TicketLock::tickets) {
            if !kept.contains(&ticket.owner) {
                self.tell_gone(&id, ticket);
            }
        }
        self.tell(&id, changes);
        Step::ready(())
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        let (hash, mut queues) = self.queues_of(id);
        let Ok(found) = queues.by_id.find_entry(hash, |l| l.conversation_id() == id) else {
            return Step::ready(false);
        };
        let lock = found.remove().0;
        queues.last_token = queues.last_token.max(lock.last_token());
        drop(queues);
        telemetry::deleted(id);
        for ticket in lock.tickets() {
            self.tell_gone(id, ticket);
        }
        Step::ready(true)
    }

    fn list(&self) -> Conversations {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let queues = shard.0.lock();
            ids.extend(queues.by_id.iter().map(|l| Ok(l.conversation_id().clone())));
        }
        Box::pin(stream::iter(ids))
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|_, listener| listener.strong_count() > 0);
        listeners.insert(client, listener);
    }
}

impl Default for InMemoryLockStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InMemoryLockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryLockStore")
            .field("conversations", &self.len())
            .finish_non_exhaustive()
    }
}
