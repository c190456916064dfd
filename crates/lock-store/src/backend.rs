//! The contract that a storage implements: three atomic steps, four plain
//! operations, and wake-ups.

mod fallback;
mod memory;
mod redis;
mod step;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::Stream;

pub(crate) use fallback::{FallbackLockStore, Phase};
pub use memory::InMemoryLockStore;
#[cfg(feature = "diagnose")]
pub use redis::diagnose;
pub use redis::{Inspection, LockSummary, RedisLockStore, ServerInfo, Survey};
pub use step::Step;

use crate::error::LockError;
use crate::identity::{ClientId, ConversationId, FencingToken, Owner};
use crate::ticket::TicketLock;

/// What a storage does for a [`LockStore`](crate::LockStore).
///
/// *issue*, *claim* and *finish* are atomic, keep the rules of
/// [`TicketLock`], and take the time from the storage's own clock. Each of
/// them may be carried out twice when a reply was lost, and must then change
/// nothing more. There are no default methods: a backend that compiles has
/// thought of everything.
///
/// The conformance suite (`lock_store::testing`, feature `testing`) tells
/// whether an implementation keeps the promises.
///
/// # Order
///
/// Steps of one conversation are carried out in the order in which they were
/// begun; for a [`Step::Pending`] that is the order of first polls.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Puts a ticket at the end of the queue; see [`TicketLock::issue`].
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued>;

    /// Starts or extends a lease, or tells where a ticket stands; see
    /// [`TicketLock::claim`].
    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed>;

    /// Hands the lock on to the next ticket of the same client; see
    /// [`TicketLock::advance`]. Only called if [`hands_over`](Self::hands_over).
    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed>;

    /// Whether a store may hand a lock on to its own next ticket before the
    /// storage knows: the storage must see both as one client's, and keep the
    /// finished ticket's lease until [`advance`](Self::advance) comes.
    fn hands_over(&self) -> bool;

    /// Removes a ticket and promotes the next; see [`TicketLock::finish`].
    /// Deletes the lock when no ticket is left.
    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished>;

    /// The queue as it is stored, dead tickets included; `None` when there is
    /// none.
    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>>;

    /// Replaces the queue of its conversation; an empty one deletes it.
    /// Owners whose tickets are no longer there are told
    /// [`WakeUp::Gone`].
    fn put(&self, lock: TicketLock) -> Step<()>;

    /// Deletes the queue and tells its owners [`WakeUp::Gone`]; says whether
    /// there was one.
    fn delete(&self, id: &ConversationId) -> Step<bool>;

    /// The ids of all conversations that have a lock, in no order. One that
    /// exists during the whole listing is in it exactly once.
    fn list(&self) -> Conversations;

    /// From now on tells `listener` what concerns the tickets of `client`,
    /// until it is gone. Called once per store, before any step.
    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>);
}

/// A stream of conversation ids.
pub type Conversations = Pin<Box<dyn Stream<Item = Result<ConversationId, LockError>> + Send>>;

/// Who is told of [`WakeUp`]s: the store.
///
/// Called from wherever the storage learns of it. It may call the storage
/// again, so no lock may be held.
pub trait Listener: Send + Sync {
    /// Takes notice; does not block. Says whether somebody here was concerned:
    /// a storage that can be asked for a ticket by somebody who has given up
    /// since gives back a ticket that is called in vain.
    fn wake_up(&self, event: WakeUp) -> bool;
}

/// What a storage tells a store without being asked.
///
/// An event may be lost; the store looks again by itself. An event may come
/// twice, or for a ticket that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeUp {
    /// The ticket of `owner` was promoted and must be claimed.
    Turn {
        /// The conversation whose turn it is.
        conversation: ConversationId,
        /// Whose turn it is.
        owner: Owner,
    },
    /// The ticket of `owner` was removed by somebody else.
    Gone {
        /// The conversation that had the ticket.
        conversation: ConversationId,
        /// Whose ticket it was.
        owner: Owner,
    },
    /// The ticket of another client was promoted ahead of the ticket of
    /// `owner`. If that client is dead, the head dies after `after`: then the
    /// owner checks.
    Watch {
        /// The conversation whose head may be dead.
        conversation: ConversationId,
        /// Who checks.
        owner: Owner,
        /// When, from now on.
        after: Duration,
    },
    /// Wake-ups may have been lost, but come again from now on: every waiter
    /// looks once.
    Resumed,
    /// No wake-ups come until [`WakeUp::Resumed`]: waiters look every
    /// `wait_time`.
    Suspended,
    /// The runtime that the storage lives in has ended: no ticket is served any
    /// more.
    Ended,
}

/// What [`Backend::issue`] is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Who asks; `None` for a ticket in Rasa's manner.
    pub owner: Option<Owner>,
    /// How long the lease is.
    pub lifetime: Duration,
    /// How long the ticket may wait.
    pub wait_timeout: Duration,
    /// How long a promoted ticket may take to be claimed.
    pub claim_window: Duration,
    /// Whether to join the queue if somebody else is in it.
    pub queue: bool,
    /// What its fencing token has to be at least, where the storage's own clock
    /// may be behind: locks that move from another storage.
    pub least_token: Option<FencingToken>,
    /// Whether this was asked before and the reply was lost: then a ticket of
    /// this owner is found, not issued again.
    pub repeated: bool,
    /// When it was asked, by the clock of this process. A backend in the same
    /// process may save itself a look at the clock; all others ask their own.
    pub asked: Instant,
}

impl Issue {
    /// A request for a ticket that waits as long as its lease is, and queues.
    pub fn new(owner: Option<Owner>, lifetime: Duration, claim_window: Duration) -> Self {
        Self {
            owner,
            lifetime,
            wait_timeout: lifetime,
            claim_window,
            queue: true,
            least_token: None,
            repeated: false,
            asked: tokio::time::Instant::now().into_std(),
        }
    }
}

/// What [`Backend::issue`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// The ticket is served and claimed: its lease runs.
    Served {
        /// The number on the ticket.
        number: u64,
        /// Its fencing token.
        fencing_token: FencingToken,
    },
    /// Others are ahead.
    Waiting {
        /// The number on the ticket.
        number: u64,
        /// Its fencing token.
        fencing_token: FencingToken,
        /// How many tickets are ahead.
        ahead: u64,
        /// After how long the head would die.
        look_again: Duration,
        /// The token of the ticket right before it: numbers begin anew with
        /// each queue, tokens do not.
        behind: FencingToken,
    },
    /// Somebody is there, and [`Issue::queue`] was false: no ticket was made.
    Taken,
}

/// What [`Backend::claim`] is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose ticket it is.
    pub owner: Owner,
    /// The number on it, if it is known: with it a storage finds the ticket
    /// without looking at all others.
    pub number: Option<u64>,
    /// How long the lease shall be, from now on.
    pub lifetime: Duration,
    /// How long a promoted ticket may take to be claimed.
    pub claim_window: Duration,
    /// Whether its owner has the lock already: extending it does not need what
    /// acquiring it needed, such as replicas that acknowledge it.
    pub extends: bool,
    /// When it was asked; see [`Issue::asked`].
    pub asked: Instant,
}

impl Claim {
    /// A claim for a ticket whose number is not known.
    pub fn new(owner: Owner, lifetime: Duration, claim_window: Duration) -> Self {
        Self {
            owner,
            number: None,
            lifetime,
            claim_window,
            extends: false,
            asked: tokio::time::Instant::now().into_std(),
        }
    }
}

/// What [`Backend::claim`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The ticket is served: its lease runs anew.
    Served {
        /// The number on the ticket.
        number: u64,
        /// Its fencing token.
        fencing_token: FencingToken,
    },
    /// Others are ahead.
    Waiting {
        /// How many.
        ahead: u64,
        /// After how long the head would die.
        look_again: Duration,
    },
    /// There is no such ticket.
    Gone,
}

/// What [`Backend::finish`] is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Which ticket.
    pub ticket: TicketName,
    /// The number on it, if it is known; see [`Claim::number`].
    pub number: Option<u64>,
    /// How long a promoted ticket may take to be claimed.
    pub claim_window: Duration,
    /// How long a storage that cannot be reached goes on trying; `None` for as
    /// long as one answer may take.
    pub patience: Option<Duration>,
    /// The number of the first ticket of this client that was finished before
    /// this one, and of which the storage may not know yet; see
    /// [`Backend::advance`]. They go with this one.
    pub first_finished: Option<u64>,
    /// The ticket as it was served at once in an empty queue, if nothing was
    /// heard of others since and it was never extended: a storage may have a
    /// shorter way for it.
    pub uncontended: Option<Uncontended>,
}

/// A ticket that was served at once, as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncontended {
    /// How long its lease is.
    pub lifetime: Duration,
    /// Its fencing token.
    pub fencing_token: FencingToken,
}

impl Finish {
    /// A finish of this ticket, of which nothing else is known.
    pub fn new(ticket: TicketName, claim_window: Duration) -> Self {
        Self {
            ticket,
            number: None,
            claim_window,
            patience: None,
            first_finished: None,
            uncontended: None,
        }
    }
}

/// How a ticket is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketName {
    /// By its owner, which is unique.
    Owner(Owner),
    /// By its number, in Rasa's manner; numbers restart with each queue.
    Number(u64),
    /// No ticket: the step only sees after the head of the queue.
    Nobodys,
}

/// What [`Backend::finish`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Whether the ticket was there. A backend that had to ask twice says
    /// `true` when it cannot know.
    pub found: bool,
    /// Whether it cannot know.
    pub in_doubt: bool,
    /// Whose ticket was promoted by this step, if one was.
    pub next: Option<Owner>,
}

impl Finished {
    /// There was nothing to be done.
    pub const NOTHING: Self = Self {
        found: false,
        in_doubt: false,
        next: None,
    };
}

impl<B: Backend> Backend for Arc<B> {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        (**self).issue(id, issue)
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        (**self).claim(id, claim)
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        (**self).advance(id, claim)
    }

    fn hands_over(&self) -> bool {
        (**self).hands_over()
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        (**self).finish(id, finish)
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        (**self).get(id)
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        (**self).put(lock)
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        (**self).delete(id)
    }

    fn list(&self) -> Conversations {
        (**self).list()
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        (**self).wake_ups(client, listener);
    }
}
