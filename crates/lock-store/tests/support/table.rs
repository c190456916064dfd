//! A small backend as somebody else would write one: rows of JSON text, every
//! answer takes its time, wake-ups come from a task of their own.
//!
//! It stands for all storages behind a network, and can misbehave like one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use lock_store::{
    Backend, Changes, Claim, Claimed, ClientId, ConversationId, Conversations, FencingToken,
    Finish, Finished, Issue, Issued, Listener, LockError, SteadyClock, Step, TicketLock, Timestamp,
    WakeUp,
};
use tokio::task::yield_now;

#[derive(Debug, Clone, Default)]
pub struct Table(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rows: Mutex<HashMap<ConversationId, String>>,
    last_token: Mutex<FencingToken>,
    clock: SteadyClock,
    listeners: Mutex<HashMap<ClientId, Listening>>,
    faults: Faults,
}

/// What goes wrong, counted down or as long as it is set.
#[derive(Debug, Default)]
pub struct Faults {
    /// So many wake-ups are lost.
    pub lost_wake_ups: AtomicUsize,
    /// So many claims are refused.
    pub failed_claims: AtomicUsize,
    /// So many claims find damaged data.
    pub damaged_claims: AtomicUsize,
    /// So many issues are carried out, but the reply is an error.
    pub lost_issue_replies: AtomicUsize,
    /// So many finishes are refused.
    pub failed_finishes: AtomicUsize,
    /// How many claims came so far.
    pub claims: AtomicUsize,
}

struct Listening(Weak<dyn Listener>);

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}

impl Table {
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub fn is_empty(&self) -> bool {
        self.0.rows.lock().unwrap().is_empty()
    }

    /// Says something to every listener.
    pub fn announce(&self, event: &WakeUp) {
        let listeners = self.0.listeners.lock().unwrap();
        let all: Vec<_> = listeners.values().filter_map(|l| l.0.upgrade()).collect();
        drop(listeners);
        for listener in all {
            listener.wake_up(event.clone());
        }
    }

    /// One atomic step, at the first poll; the reply comes two polls later.
    fn step<T: Send + 'static>(
        &self,
        id: &ConversationId,
        transition: impl FnOnce(&mut TicketLock, Timestamp, &mut Changes) -> T + Send + 'static,
    ) -> Step<T> {
        let (table, id) = (self.clone(), id.clone());
        Step::pending(async move {
            let result = table.transact(&id, transition);
            yield_now().await;
            yield_now().await;
            result
        })
    }

    fn transact<T>(
        &self,
        id: &ConversationId,
        transition: impl FnOnce(&mut TicketLock, Timestamp, &mut Changes) -> T,
    ) -> Result<T, LockError> {
        let mut rows = self.0.rows.lock().unwrap();
        let mut last_token = self.0.last_token.lock().unwrap();
        let mut lock = match rows.get(id) {
            Some(text) => TicketLock::from_json(text)?,
            None => TicketLock::resumed(id.clone(), VecDeque::new(), *last_token),
        };
        let mut changes = Changes::default();
        let result = transition(&mut lock, self.0.clock.now(), &mut changes);
        *last_token = (*last_token).max(lock.last_token());
        if lock.is_empty() {
            rows.remove(id);
        } else {
            rows.insert(id.clone(), lock.to_json());
        }
        drop(rows);
        for ticket in changes.expired.iter().chain(&changes.abandoned) {
            if let Some(owner) = ticket.owner {
                let conversation = id.clone();
                self.tell(
                    owner.client,
                    WakeUp::Gone {
                        conversation,
                        owner,
                    },
                );
            }
        }
        if let Some(owner) = changes.wake {
            let conversation = id.clone();
            self.tell(
                owner.client,
                WakeUp::Turn {
                    conversation,
                    owner,
                },
            );
        }
        for owner in changes.watch {
            self.tell(
                owner.client,
                WakeUp::Watch {
                    conversation: id.clone(),
                    owner,
                    after: Duration::from_secs(5),
                },
            );
        }
        Ok(result)
    }

    fn tell(&self, client: ClientId, event: WakeUp) {
        if count_down(&self.0.faults.lost_wake_ups) {
            return;
        }
        let table = self.clone();
        tokio::spawn(async move {
            yield_now().await;
            let listener = table
                .0
                .listeners
                .lock()
                .unwrap()
                .get(&client)
                .map(|l| l.0.clone());
            if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
                listener.wake_up(event);
            }
        });
    }
}

fn count_down(fault: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    fault
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

fn unreachable() -> LockError {
    LockError::unavailable("the table does not answer")
}

impl Backend for Table {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let issue = issue.clone();
        let lost = count_down(&self.0.faults.lost_issue_replies);
        let step = self.step(id, move |lock, now, changes| {
            lock.issue(&issue, now, changes)
        });
        Step::pending(async move {
            let issued = step.resolve().await;
            if lost { Err(unreachable()) } else { issued }
        })
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        self.0.faults.claims.fetch_add(1, Ordering::SeqCst);
        if count_down(&self.0.faults.failed_claims) {
            return Step::pending(async { Err(unreachable()) });
        }
        if count_down(&self.0.faults.damaged_claims) {
            return Step::pending(async { Err(LockError::corrupt("the row is damaged")) });
        }
        let claim = claim.clone();
        self.step(id, move |lock, now, changes| {
            lock.claim(&claim, now, changes)
        })
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let claim = claim.clone();
        self.step(id, move |lock, now, changes| {
            lock.advance(&claim, now, changes)
        })
    }

    fn hands_over(&self) -> bool {
        true
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        if count_down(&self.0.faults.failed_finishes) {
            return Step::pending(async { Err(unreachable()) });
        }
        let finish = finish.clone();
        self.step(id, move |lock, now, changes| {
            lock.finish(&finish, now, changes)
        })
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        let (table, id) = (self.clone(), id.clone());
        Step::pending(async move {
            yield_now().await;
            let row = table.0.rows.lock().unwrap().get(&id).cloned();
            row.map(|text| TicketLock::from_json(&text)).transpose()
        })
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        let id = lock.conversation_id().clone();
        self.step(&id, move |stored, now, changes| {
            let gone = stored.tickets().filter(|old| {
                old.owner.is_some() && !lock.tickets().any(|kept| kept.owner == old.owner)
            });
            changes.expired.extend(gone.cloned());
            *stored = lock;
            stored.drop_dead_heads(now, Duration::from_secs(5), changes);
        })
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        self.step(id, |lock, _, changes| {
            let existed = !lock.is_empty();
            changes.expired.extend(lock.tickets().cloned());
            let (id, last_token) = (lock.conversation_id().clone(), lock.last_token());
            *lock = TicketLock::resumed(id, VecDeque::new(), last_token);
            existed
        })
    }

    fn list(&self) -> Conversations {
        let ids: Vec<_> = self
            .0
            .rows
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .map(Ok)
            .collect();
        Box::pin(futures_util::stream::iter(ids))
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        self.0
            .listeners
            .lock()
            .unwrap()
            .insert(client, Listening(listener));
    }
}
