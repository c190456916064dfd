//! The storage of one process: a sharded map of [`TicketLock`]s.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use futures_util::stream;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, Issue, Issued, Listener, Step, WakeUp,
};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::identity::{ClientId, ConversationId, FencingToken, Owner};
use crate::sync::{Mutex, MutexGuard};
use crate::telemetry;
use crate::ticket::{Changes, Ticket, TicketLock};
use crate::time::SteadyClock;

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
    clock: SteadyClock,
    /// A handful at most, mostly one.
    listeners: Mutex<Vec<(ClientId, Weak<dyn Listener>)>>,
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
            clock: SteadyClock::new(),
            listeners: Mutex::default(),
        }
    }

    /// How many conversations have a lock.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.0.lock().by_id.len()).sum()
    }

    pub(crate) fn contains(&self, id: &ConversationId) -> bool {
        let (hash, queues) = self.queues_of(id);
        let found = queues.by_id.find(hash, |lock| lock.conversation_id() == id);
        found.is_some()
    }

    /// The conversations that have a lock.
    pub(crate) fn conversation_ids(&self) -> Vec<ConversationId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let queues = shard.0.lock();
            ids.extend(queues.by_id.iter().map(|l| l.conversation_id().clone()));
        }
        ids
    }

    pub(crate) fn has_ticket_of(&self, id: &ConversationId, owner: Owner) -> bool {
        let (hash, queues) = self.queues_of(id);
        let found = queues.by_id.find(hash, |lock| lock.conversation_id() == id);
        found.is_some_and(|lock| lock.has_ticket_of(owner))
    }

    pub(crate) fn is_head(&self, id: &ConversationId, owner: Owner) -> bool {
        let (hash, queues) = self.queues_of(id);
        let found = queues.by_id.find(hash, |lock| lock.conversation_id() == id);
        let head = found.and_then(|lock| lock.tickets().next());
        head.is_some_and(|head| head.owner == Some(owner))
    }

    /// Whether no conversation has a lock.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queues_of(&self, id: &ConversationId) -> (u64, MutexGuard<'_, Queues>) {
        let (hash, shard) = id.place(SHARDS);
        (hash, self.shards[shard].0.lock())
    }

    #[inline]
    fn tell(&self, id: &ConversationId, changes: Changes, claim_window: Duration) {
        if changes.wake.is_some() || !changes.expired.is_empty() {
            self.tell_others(id, changes, claim_window);
        }
    }

    fn tell_others(&self, id: &ConversationId, changes: Changes, claim_window: Duration) {
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
        let mut told = 0;
        for owner in changes.watch {
            let watch = WakeUp::Watch {
                conversation: id.clone(),
                owner,
                after: claim_window,
            };
            told += usize::from(self.send(owner.client, watch));
            if told == 3 {
                break;
            }
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

    /// Says whether the client is there.
    fn send(&self, client: ClientId, event: WakeUp) -> bool {
        let listeners = self.listeners.lock();
        let known = listeners.iter().find(|(known, _)| *known == client);
        let listener = known.and_then(|(_, listener)| listener.upgrade());
        drop(listeners);
        if let Some(listener) = &listener {
            listener.wake_up(event);
        }
        listener.is_some()
    }
}

impl Queues {
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
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let now = self.clock.at(issue.asked);
        let (hash, mut queues) = self.queues_of(id);
        let Queues {
            by_id,
            last_token,
            spare,
        } = &mut *queues;
        let is_meant = |lock: &TicketLock| lock.conversation_id() == id;
        let lock = match by_id.entry(hash, is_meant, |lock| lock.conversation_id().hash()) {
            Entry::Occupied(found) => found.into_mut(),
            // What most issues come to: it concerns nobody else.
            Entry::Vacant(place) => {
                let tickets = spare.pop().unwrap_or_default();
                let mut lock = TicketLock::resumed(id.clone(), tickets, *last_token);
                let issued = lock.issue_first(issue, now);
                place.insert(lock);
                return Step::ready(issued);
            }
        };
        let mut changes = Changes::default();
        let issued = lock.issue(issue, now, &mut changes);
        drop(queues);
        self.tell(id, changes, issue.claim_window);
        Step::ready(issued)
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (hash, mut queues) = self.queues_of(id);
        let Ok(mut found) = queues.by_id.find_entry(hash, |l| l.conversation_id() == id) else {
            return Step::ready(Claimed::Gone);
        };
        let mut changes = Changes::default();
        let now = self.clock.at(claim.asked);
        let claimed = found.get_mut().claim(claim, now, &mut changes);
        if found.get().is_empty() {
            let (lock, _) = found.remove();
            queues.discard(lock);
        }
        drop(queues);
        self.tell(id, changes, claim.claim_window);
        Step::ready(claimed)
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (hash, mut queues) = self.queues_of(id);
        let Some(lock) = queues.by_id.find_mut(hash, |l| l.conversation_id() == id) else {
            return Step::ready(Claimed::Gone);
        };
        let mut changes = Changes::default();
        let now = self.clock.at(claim.asked);
        let claimed = lock.advance(claim, now, &mut changes);
        drop(queues);
        self.tell(id, changes, claim.claim_window);
        Step::ready(claimed)
    }

    fn hands_over(&self) -> bool {
        true
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        let (hash, mut queues) = self.queues_of(id);
        let Ok(mut found) = queues.by_id.find_entry(hash, |l| l.conversation_id() == id) else {
            return Step::ready(Finished::NOTHING);
        };
        if found.get().is_only_ticket(finish.ticket) {
            let (lock, _) = found.remove();
            queues.discard(lock);
            drop(queues);
            telemetry::deleted(id);
            return Step::ready(Finished {
                found: true,
                in_doubt: false,
                next: None,
            });
        }
        let mut changes = Changes::default();
        let lock = found.get_mut();
        let finished = lock.finish(finish, self.clock.now(), &mut changes);
        if lock.is_empty() {
            let (lock, _) = found.remove();
            queues.discard(lock);
        }
        drop(queues);
        self.tell(id, changes, finish.claim_window);
        Step::ready(finished)
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
        let replaced = old
            .as_ref()
            .map_or_else(FencingToken::default, TicketLock::last_token);
        queues.last_token = queues.last_token.max(lock.last_token()).max(replaced);
        lock.raise_last_token(queues.last_token);
        if !lock.is_empty() {
            queues
                .by_id
                .insert_unique(hash, lock, |lock| lock.conversation_id().hash());
        }
        drop(queues);

        for ticket in old.iter().flat_map(TicketLock::tickets) {
            if !kept.contains(&ticket.owner) {
                self.tell_gone(&id, ticket);
            }
        }
        self.tell(&id, changes, DEFAULT_CLAIM_WINDOW);
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
        Box::pin(stream::iter(self.conversation_ids().into_iter().map(Ok)))
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|(_, listener)| listener.strong_count() > 0);
        listeners.push((client, listener));
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
