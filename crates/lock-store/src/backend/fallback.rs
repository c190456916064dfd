//! Starting without Redis: memory, until Redis can be reached.
//!
//! A conversation is in one place at a time. Until Redis is there, it is in
//! memory; from then on new ones are in Redis, and one that has live tickets
//! in memory stays there until they are done. So within this process a
//! conversation is never locked twice, and none moves back.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::AbortHandle;

use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, InMemoryLockStore, Issue, Issued,
    Listener, RedisLockStore, Step,
};
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId};
use crate::sync::Mutex;
use crate::telemetry;
use crate::ticket::TicketLock;

/// Between two looks whether Redis is there, or whether memory is empty.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Memory first, Redis as soon as it can be reached.
pub(crate) struct FallbackLockStore {
    inner: Arc<Inner>,
    healing: AbortHandle,
}

struct Inner {
    memory: InMemoryLockStore,
    redis: RedisLockStore,
    phase: Arc<Phase>,
    /// Held while it is decided where a new ticket goes, and until it is there
    /// if it goes to memory: otherwise the conversation could become free in
    /// between, and be locked in Redis.
    gate: Mutex<()>,
}

/// How far Redis is.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicU8);

/// Redis was never there.
const DEGRADED: u8 = 1;
/// Redis is there, and some conversations are still in memory.
const HEALING: u8 = 2;
/// Memory is empty, and stays so.
const HEALED: u8 = 3;

impl Phase {
    /// Whether new locks are in memory although they should not be.
    pub(crate) fn is_degraded(&self) -> bool {
        self.get() == DEGRADED
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
        });
        let healing = tokio::spawn(heal(Arc::downgrade(&inner))).abort_handle();
        (Self { inner, healing }, phase)
    }
}

async fn heal(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match inner.phase.get() {
            DEGRADED => {
                if inner.redis.is_connected() && inner.redis.first_outcome().await.is_ok() {
                    let gate = inner.gate.lock();
                    inner.phase.set(HEALING);
                    drop(gate);
                    telemetry::healed();
                }
            }
            HEALING => {
                let _gate = inner.gate.lock();
                if inner.memory.is_empty() {
                    inner.phase.set(HEALED);
                }
            }
            _ => return,
        }
    }
}

impl Inner {
    fn is_in_memory(&self, id: &ConversationId) -> bool {
        match self.phase.get() {
            DEGRADED => true,
            HEALING => self.memory.contains(id),
            _ => false,
        }
    }
}

impl Backend for FallbackLockStore {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let inner = &self.inner;
        if inner.phase.get() == HEALED {
            return inner.redis.issue(id, issue);
        }
        let _gate = inner.gate.lock();
        if inner.is_in_memory(id) {
            inner.memory.issue(id, issue)
        } else {
            inner.redis.issue(id, issue)
        }
    }

    // Memory calls its listeners while it issues, and they claim: what follows
    // must not wait for the gate. It need not, as it makes no new queue.

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        if self.inner.is_in_memory(id) {
            self.inner.memory.claim(id, claim)
        } else {
            self.inner.redis.claim(id, claim)
        }
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        if self.inner.is_in_memory(id) {
            self.inner.memory.finish(id, finish)
        } else {
            self.inner.redis.finish(id, finish)
        }
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        if self.inner.is_in_memory(id) {
            self.inner.memory.get(id)
        } else {
            self.inner.redis.get(id)
        }
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        let _gate = self.inner.gate.lock();
        if self.inner.is_in_memory(lock.conversation_id()) {
            self.inner.memory.put(lock)
        } else {
            self.inner.redis.put(lock)
        }
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        if self.inner.is_in_memory(id) {
            self.inner.memory.delete(id)
        } else {
            self.inner.redis.delete(id)
        }
    }

    fn list(&self) -> Conversations {
        let in_memory = self.inner.memory.list();
        if self.inner.phase.is_degraded() {
            return in_memory;
        }
        Box::pin(in_memory.chain(self.inner.redis.list()))
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
