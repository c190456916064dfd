//! Starting without Redis: memory, until Redis can be reached.
//!
//! From then on new tickets go to Redis. A conversation that has tickets in
//! memory is *joined* to Redis by one ticket there that stands for all of them:
//! so no other process gets its lock before they are done, and new tickets of
//! this process stand behind it. If another process holds the lock in Redis
//! already, the holder in memory cannot be undone; but no further ticket of
//! memory is served until the one that stands for them is.
//!
//! Lock order: the gate, then what memory and Redis take for themselves. The
//! joined conversations are never locked while another lock is taken.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, InMemoryLockStore, Issue, Issued,
    Listener, RedisLockStore, Step, TicketName,
};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId, FencingToken, Owner};
use crate::sync::Mutex;
use crate::telemetry;
use crate::ticket::TicketLock;

/// Between two checks whether Redis is there, or whether memory is empty.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// The lease of a ticket that stands for those in memory. It is extended every
/// third of it.
const JOINED_LIFETIME: Duration = Duration::from_secs(30);

/// How long such a ticket may wait: for ever, nearly.
const JOINED_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Memory first, Redis as soon as it can be reached.
pub(crate) struct FallbackLockStore {
    inner: Arc<Inner>,
    healing: AbortHandle,
}

struct Inner {
    memory: InMemoryLockStore,
    redis: RedisLockStore,
    phase: Arc<Phase>,
    /// Held while it is decided where a new ticket goes, and until it is there if
    /// it goes to memory: otherwise the conversation could be joined to Redis in
    /// between, without it.
    gate: Mutex<()>,
    joined: Mutex<HashMap<ConversationId, Arc<Joined>>>,
    /// The highest token that was given in memory: this machine's clock may be
    /// ahead of that of Redis, and tokens must not fall.
    highest_token: AtomicU64,
}

/// A conversation whose tickets in memory one ticket in Redis stands for.
#[derive(Debug, Default)]
struct Joined {
    /// Whether that ticket is served.
    is_served: AtomicBool,
    /// What was finished in memory before, and would let the next be served.
    put_off: Mutex<Vec<Finish>>,
}

/// How far Redis is.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicU8);

/// Redis was never there.
const DEGRADED: u8 = 1;
/// Redis is there, and some conversations have tickets in memory.
const HEALING: u8 = 2;
/// Memory is empty, and stays so.
const HEALED: u8 = 3;

impl Phase {
    /// Whether there are locks in memory although there should not be.
    pub(crate) fn is_degraded(&self) -> bool {
        self.get() != HEALED
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Release);
    }
}

impl FallbackLockStore {
    /// Serves from memory until `redis`, which could not be reached because of
    /// `error`, can be.
    pub(crate) fn begin(redis: RedisLockStore, error: &LockError) -> (Self, Arc<Phase>) {
        telemetry::degraded(error);
        let phase = Arc::new(Phase(AtomicU8::new(DEGRADED)));
        let inner = Arc::new(Inner {
            memory: InMemoryLockStore::new(),
            redis,
            phase: phase.clone(),
            gate: Mutex::default(),
            joined: Mutex::default(),
            highest_token: AtomicU64::new(0),
        });
        let healing = tokio::spawn(heal(Arc::downgrade(&inner))).abort_handle();
        (Self { inner, healing }, phase)
    }
}

/// Moves to Redis, as soon as that can be reached and allows what is needed.
async fn heal(inner: Weak<Inner>) {
    let mut told = String::new();
    loop {
        sleep(CHECK_EVERY).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match inner.phase.get() {
            DEGRADED if inner.redis.is_connected() => match inner.redis.first_outcome().await {
                Ok(()) => inner.move_to_redis(),
                // Each reason once, not ten times a second.
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        telemetry::still_degraded(&error);
                        told = text;
                    }
                }
            },
            HEALING => {
                let is_empty = inner.memory.is_empty() && inner.joined.lock().is_empty();
                if is_empty {
                    inner.phase.set(HEALED);
                    telemetry::healed();
                }
            }
            DEGRADED => {}
            _ => return,
        }
    }
}

impl Inner {
    /// From now on new tickets go to Redis, behind those that stand for the
    /// tickets in memory.
    fn move_to_redis(self: &Arc<Self>) {
        let _gate = self.gate.lock();
        self.phase.set(HEALING);
        for id in self.memory.conversation_ids() {
            let joined = Arc::new(Joined::default());
            let mut standing = Box::pin(stand_for(self.clone(), id.clone(), joined.clone()));
            self.joined.lock().insert(id, joined);
            // Its request has its place before any that comes after it.
            let mut nothing = Context::from_waker(Waker::noop());
            if Pin::new(&mut standing).poll(&mut nothing).is_pending() {
                tokio::spawn(standing);
            }
        }
    }

    /// Whether the ticket of this owner is in memory.
    fn is_in_memory(&self, id: &ConversationId, owner: Option<Owner>) -> bool {
        match (self.phase.get(), owner) {
            (DEGRADED, _) => true,
            (HEALING, Some(owner)) => self.memory.has_ticket_of(id, owner),
            (HEALING, None) => self.memory.contains(id),
            _ => false,
        }
    }

    /// The conversation, if the ticket that stands for it is not served yet.
    fn unserved(&self, id: &ConversationId) -> Option<Arc<Joined>> {
        if self.phase.get() != HEALING {
            return None;
        }
        let joined = self.joined.lock().get(id).cloned();
        joined.filter(|joined| !joined.is_served.load(Ordering::Acquire))
    }

    fn note_token(&self, issued: &Step<Issued>) {
        if let Step::Done(Ok(
            Issued::Served { fencing_token, .. } | Issued::Waiting { fencing_token, .. },
        )) = issued
        {
            self.highest_token
                .fetch_max(fencing_token.get(), Ordering::AcqRel);
        }
    }

    /// What a token in Redis has to be at least, if its clock does not see to
    /// that.
    fn least_token(&self, id: &ConversationId) -> Option<FencingToken> {
        let highest = self.highest_token.load(Ordering::Acquire);
        let is_behind = highest > 0 && self.redis.server_time(id).as_micros() <= highest;
        is_behind.then(|| FencingToken::new(highest + 1))
    }

    fn issue_in_redis(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let issue = Issue {
            least_token: self.least_token(id),
            ..issue.clone()
        };
        self.redis.issue(id, &issue)
    }
}

/// Has a ticket in Redis for as long as there are tickets of the conversation in
/// memory.
async fn stand_for(inner: Arc<Inner>, id: ConversationId, joined: Arc<Joined>) {
    let owner = Owner {
        client: ClientId::random(),
        sequence: 1,
    };
    let issue = Issue {
        wait_timeout: JOINED_WAIT,
        ..Issue::new(Some(owner), JOINED_LIFETIME, DEFAULT_CLAIM_WINDOW)
    };
    let issued = inner.issue_in_redis(&id, &issue).resolve().await;
    let mut is_served = matches!(issued, Ok(Issued::Served { .. }));
    let mut extended = Instant::now();
    loop {
        if is_served && !joined.is_served.swap(true, Ordering::AcqRel) {
            let put_off = std::mem::take(&mut *joined.put_off.lock());
            for finish in put_off {
                // Memory answers at once, and calls the next itself.
                drop(inner.memory.finish(&id, &finish));
            }
        }
        if is_served {
            // Dead tickets are dropped, if there is no waiter that does it.
            let nothing = Finish::new(TicketName::Nobodys, DEFAULT_CLAIM_WINDOW);
            drop(inner.memory.finish(&id, &nothing));
        }
        if !inner.memory.contains(&id) {
            break;
        }
        sleep(CHECK_EVERY).await;
        if is_served && extended.elapsed() < JOINED_LIFETIME / 3 {
            continue;
        }
        let asked = Instant::now();
        let claim = Claim::new(owner, JOINED_LIFETIME, DEFAULT_CLAIM_WINDOW);
        match inner.redis.claim(&id, &claim).resolve().await {
            Ok(Claimed::Served { .. }) => (is_served, extended) = (true, asked),
            Ok(Claimed::Waiting { .. }) => {}
            // Redis lost it: in line once more. It does not become served by
            // that: the tickets in memory wait again.
            Ok(Claimed::Gone) => {
                let again = inner.issue_in_redis(&id, &issue).resolve().await;
                if matches!(again, Ok(Issued::Served { .. })) {
                    (is_served, extended) = (true, asked);
                }
            }
            Err(error) => telemetry::look_failed(&id, &error),
        }
    }
    let finish = Finish {
        patience: Some(JOINED_LIFETIME),
        ..Finish::new(TicketName::Owner(owner), DEFAULT_CLAIM_WINDOW)
    };
    if let Err(error) = inner.redis.finish(&id, &finish).resolve().await {
        telemetry::release_failed(&id, &error);
    }
    inner.joined.lock().remove(&id);
}

impl Backend for FallbackLockStore {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let inner = &self.inner;
        if inner.phase.get() == HEALED && inner.highest_token.load(Ordering::Acquire) == 0 {
            return inner.redis.issue(id, issue);
        }
        let _gate = inner.gate.lock();
        if inner.phase.get() == DEGRADED {
            let issued = inner.memory.issue(id, issue);
            inner.note_token(&issued);
            issued
        } else {
            inner.issue_in_redis(id, issue)
        }
    }

    // Memory calls its listeners while it issues, and they claim: what follows
    // must not wait for the gate. It need not, as it makes no new queue.

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let inner = &self.inner;
        if !inner.is_in_memory(id, Some(claim.owner)) {
            return inner.redis.claim(id, claim);
        }
        if inner.unserved(id).is_some() && !inner.memory.is_head(id, claim.owner) {
            return Step::ready(Claimed::Waiting {
                ahead: 1,
                look_again: CHECK_EVERY,
            });
        }
        inner.memory.claim(id, claim)
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        self.inner.redis.advance(id, claim)
    }

    /// Not as long as some tickets are in memory.
    fn hands_over(&self) -> bool {
        self.inner.phase.get() == HEALED && self.inner.redis.hands_over()
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        let inner = &self.inner;
        let owner = match finish.ticket {
            TicketName::Owner(owner) => Some(owner),
            TicketName::Number(_) | TicketName::Nobodys => None,
        };
        if !inner.is_in_memory(id, owner) {
            return inner.redis.finish(id, finish);
        }
        if let Some(joined) = inner.unserved(id) {
            let mut put_off = joined.put_off.lock();
            // Under the lock: it is served meanwhile, or sees this.
            if !joined.is_served.load(Ordering::Acquire) {
                put_off.push(finish.clone());
                return Step::ready(Finished {
                    found: true,
                    in_doubt: false,
                    next: None,
                });
            }
        }
        inner.memory.finish(id, finish)
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        if self.inner.is_in_memory(id, None) {
            self.inner.memory.get(id)
        } else {
            self.inner.redis.get(id)
        }
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        let _gate = self.inner.gate.lock();
        if self.inner.is_in_memory(lock.conversation_id(), None) {
            self.inner.memory.put(lock)
        } else {
            self.inner.redis.put(lock)
        }
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        if self.inner.is_in_memory(id, None) {
            self.inner.memory.delete(id)
        } else {
            self.inner.redis.delete(id)
        }
    }

    /// One that is joined is listed once.
    fn list(&self) -> Conversations {
        let in_memory = self.inner.memory.conversation_ids();
        let listed = futures_util::stream::iter(in_memory.clone().into_iter().map(Ok));
        if self.inner.phase.get() == DEGRADED {
            return Box::pin(listed);
        }
        let in_redis = self.inner.redis.list().filter(move |id| {
            let is_listed = id.as_ref().is_ok_and(|id| in_memory.contains(id));
            std::future::ready(!is_listed)
        });
        Box::pin(listed.chain(in_redis))
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        self.inner.memory.wake_ups(client, listener.clone());
        self.inner.redis.wake_ups(client, listener);
    }
}

impl Drop for FallbackLockStore {
    fn drop(&mut self) {
        self.healing.abort();
    }
}

impl fmt::Debug for FallbackLockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLockStore")
            .field("memory", &self.inner.memory)
            .field("redis", &self.inner.redis)
            .field("phase", &self.inner.phase)
            .finish_non_exhaustive()
    }
}
