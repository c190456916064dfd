//! Issues of one conversation keep their order: first asked, first issued,
//! whatever happens in between.
//!
//! At most one call with issues of a conversation is under way. Those that come
//! meanwhile wait, and follow together in the next call: the first ticket of a
//! burst takes one round trip, all the others the second. A call that fails is
//! sent again before any issue that came later; so nothing that can happen to a
//! call (no connection yet, a lost one, forgotten scripts, a redirection, no
//! answer) lets one issue pass another.
//!
//! The first issue is driven by its caller, so that a conversation without a
//! burst costs no task. When another one comes behind it, a task takes over:
//! callers that are not polled, or are dropped, delay no other caller.
//!
//! Locks: a shard of [`Order`] and a [`First`] are never held together. A first
//! issue is polled under its own lock, and nothing else is done under it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hashbrown::HashTable;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::gather::STEPS;
use super::scripts::Action;
use super::sender::{Answer, Request, Sent, Steps, ended};
use crate::backend::{Finish, TicketName};
use crate::error::LockError;
use crate::identity::{ConversationId, Owner};
use crate::sync::Mutex;

const SHARDS: usize = 16;

type Lines = HashTable<Line>;

/// The conversations that have an issue under way.
#[derive(Default)]
pub(super) struct Order {
    lines: [Mutex<Lines>; SHARDS],
    /// The issues that a task drives, until their callers have noticed the
    /// answer.
    carried: Mutex<HashMap<Owner, Asked, ahash::RandomState>>,
}

/// What an issue asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) owner: Owner,
    pub(super) lifetime: Duration,
    pub(super) claim_window: Duration,
}

impl Asked {
    fn by(request: &Request) -> Option<Self> {
        let Action::Issue(issue) = &request.action else {
            return None;
        };
        Some(Self {
            owner: issue.owner?,
            lifetime: issue.lifetime,
            claim_window: issue.claim_window,
        })
    }

    /// What gives its ticket back.
    fn undo(self) -> Action {
        Action::Finish(Finish::new(
            TicketName::Owner(self.owner),
            self.claim_window,
        ))
    }
}

/// A conversation with an issue under way, and those that wait for it.
struct Line {
    id: ConversationId,
    /// `None` while several are under way in one call.
    first: Option<Arc<First>>,
    behind: VecDeque<Sent>,
}

/// An issue that nothing was ahead of.
struct First {
    driver: Mutex<Driver>,
    asked: Option<Asked>,
}

/// What has an issue sent.
enum Driver {
    /// Its caller does, and can be woken by this.
    Caller(Pin<Box<dyn Future<Output = Answer> + Send>>, Option<Waker>),
    /// A task does, as others wait behind it.
    Task(oneshot::Receiver<Answer>),
    Over,
}

impl Order {
    fn lines(&self, id: &ConversationId) -> (u64, &Mutex<Lines>) {
        let (hash, shard) = id.place(SHARDS);
        (hash, &self.lines[shard])
    }

    /// What the owner asked for, if its caller has not noticed an answer yet.
    pub(super) fn asked(&self, id: &ConversationId, owner: Owner) -> Option<Asked> {
        let (hash, lines) = self.lines(id);
        let lines = lines.lock();
        let first = lines.find(hash, |line| line.id == *id);
        let first = first.and_then(|line| line.first.as_ref()?.asked);
        drop(lines);
        if let Some(asked) = first.filter(|asked| asked.owner == owner) {
            return Some(asked);
        }
        self.carried.lock().get(&owner).copied()
    }

    fn carry(&self, asked: Option<Asked>) {
        if let Some(asked) = asked {
            self.carried.lock().insert(asked.owner, asked);
        }
    }

    fn is_noticed(&self, asked: Option<Asked>) {
        if let Some(asked) = asked {
            self.carried.lock().remove(&asked.owner);
        }
    }

    /// What follows in the next call. `None` when nothing waits: then no issue of
    /// the conversation is under way any more.
    fn next(&self, id: &ConversationId) -> Option<Vec<Sent>> {
        let (hash, lines) = self.lines(id);
        let mut lines = lines.lock();
        let mut found = lines.find_entry(hash, |line| line.id == *id).ok()?;
        let line = found.get_mut();
        line.behind.retain(|sent| !sent.answer.is_closed());
        if line.behind.is_empty() {
            found.remove();
            return None;
        }
        line.first = None;
        let count = line.behind.len().min(STEPS);
        Some(line.behind.drain(..count).collect())
    }
}

/// Sends an issue in its order; it has its place as soon as this was polled.
pub(super) fn issue(steps: &Arc<Steps>, request: Request) -> Issuing {
    Issuing {
        steps: steps.clone(),
        id: request.id.clone(),
        asked: Asked::by(&request),
        limit: request.limit,
        stage: Stage::Fresh(request),
    }
}

/// See [`issue`].
pub(super) struct Issuing {
    steps: Arc<Steps>,
    id: ConversationId,
    asked: Option<Asked>,
    limit: Instant,
    stage: Stage,
}

#[allow(clippy::large_enum_variant)] // it is in a box already
enum Stage {
    Fresh(Request),
    First(Arc<First>),
    Behind(oneshot::Receiver<Answer>, Option<GivesUp>),
    Over,
}

/// When its caller gives up, or the runtime of the store ends: then nothing
/// drives it any more.
type GivesUp = Pin<Box<dyn Future<Output = Option<LockError>> + Send>>;

fn gives_up(steps: &Arc<Steps>, limit: Instant) -> GivesUp {
    let steps = steps.clone();
    Box::pin(async move {
        tokio::select! {
            () = sleep_until(limit) => None,
            () = steps.home.ended() => Some(LockError::runtime_ended()),
        }
    })
}

impl Future for Issuing {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Stage::Fresh(_) = self.stage
            && let Stage::Fresh(request) = std::mem::replace(&mut self.stage, Stage::Over)
        {
            if self.steps.home.has_ended() {
                return Poll::Ready(Err(ended(&self.id)));
            }
            self.stage = enter(&self.steps, request);
        }
        let this = &mut *self;
        let answer = match &mut this.stage {
            Stage::First(first) => {
                let (answer, was_driven) = ready!(first.poll(cx));
                if was_driven {
                    finished(&this.steps, &this.id);
                } else {
                    this.steps.order.is_noticed(this.asked);
                }
                answer
            }
            Stage::Behind(answered, timer) => match Pin::new(answered).poll(cx) {
                Poll::Ready(answer) => answer.unwrap_or_else(|_| Err(ended(&this.id))),
                Poll::Pending => {
                    let limit = this.limit;
                    let gives_up = timer.get_or_insert_with(|| gives_up(&this.steps, limit));
                    let ended = ready!(gives_up.as_mut().poll(cx));
                    // Dropping the receiver takes it out.
                    let late = || LockError::unavailable("no answer to the requests before it");
                    Err(ended.unwrap_or_else(late).for_conversation(&this.id))
                }
            },
            Stage::Fresh(_) | Stage::Over => Err(ended(&this.id)),
        };
        if let Stage::Behind(..) = this.stage {
            this.steps.order.is_noticed(this.asked);
        }
        self.stage = Stage::Over;
        Poll::Ready(answer)
    }
}

impl Drop for Issuing {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::First(first) if first.give_up() => finished(&self.steps, &self.id),
            Stage::First(_) | Stage::Behind(..) => self.steps.order.is_noticed(self.asked),
            Stage::Fresh(_) | Stage::Over => {}
        }
    }
}

/// Puts an issue behind those of its conversation that are under way.
fn enter(steps: &Arc<Steps>, request: Request) -> Stage {
    let (hash, lines) = steps.order.lines(&request.id);
    let mut lines = lines.lock();
    if let Some(line) = lines.find_mut(hash, |line| line.id == request.id) {
        let id = request.id.clone();
        let asked = Asked::by(&request);
        let (answer, answered) = oneshot::channel();
        line.behind.push_back(Sent { request, answer });
        let first = line.first.clone();
        drop(lines);
        steps.order.carry(asked);
        if let Some(first) = first {
            first.take_over(steps, id);
        }
        return Stage::Behind(answered, None);
    }
    let id = request.id.clone();
    let asked = Asked::by(&request);
    let send = {
        let steps = steps.clone();
        async move { steps.send(request).await }
    };
    let first = Arc::new(First {
        driver: Mutex::new(Driver::Caller(Box::pin(send), None)),
        asked,
    });
    let line = Line {
        id,
        first: Some(first.clone()),
        behind: VecDeque::new(),
    };
    lines.insert_unique(hash, line, |line| line.id.hash());
    Stage::First(first)
}

/// No issue of the conversation is under way: those that wait follow.
fn finished(steps: &Arc<Steps>, id: &ConversationId) {
    if let Some(next) = steps.order.next(id) {
        steps
            .home
            .runtime
            .spawn(follow(steps.clone(), id.clone(), next));
    }
}

async fn follow(steps: Arc<Steps>, id: ConversationId, mut next: Vec<Sent>) {
    loop {
        steps.send_together(next).await;
        match steps.order.next(&id) {
            Some(behind) => next = behind,
            None => return,
        }
    }
}

impl First {
    /// The answer, and whether its caller has driven it to that.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<(Answer, bool)> {
        let mut driver = self.driver.lock();
        let answer = match &mut *driver {
            Driver::Caller(send, waker) => match send.as_mut().poll(cx) {
                Poll::Ready(answer) => (answer, true),
                Poll::Pending => {
                    if !waker
                        .as_ref()
                        .is_some_and(|known| known.will_wake(cx.waker()))
                    {
                        *waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
            },
            Driver::Task(answered) => {
                let answer = ready!(Pin::new(answered).poll(cx));
                let ended = |_| Err(LockError::runtime_ended());
                (answer.unwrap_or_else(ended), false)
            }
            Driver::Over => return Poll::Pending,
        };
        let over = std::mem::replace(&mut *driver, Driver::Over);
        drop(driver);
        // Outside of the lock.
        drop(over);
        Poll::Ready(answer)
    }

    /// Its caller goes away. Says whether it was driving.
    fn give_up(&self) -> bool {
        let driver = std::mem::replace(&mut *self.driver.lock(), Driver::Over);
        matches!(driver, Driver::Caller(..))
    }

    /// From now on a task drives it, and whatever waits behind it. If its caller
    /// goes away meanwhile, it is not sent again, and what was done is given back:
    /// the caller's own finish may have come before.
    fn take_over(&self, steps: &Arc<Steps>, id: ConversationId) {
        let (mut answer, answered) = oneshot::channel();
        let (send, waker) = {
            let mut driver = self.driver.lock();
            if !matches!(*driver, Driver::Caller(..)) {
                return;
            }
            match std::mem::replace(&mut *driver, Driver::Task(answered)) {
                Driver::Caller(send, waker) => (send, waker),
                Driver::Task(_) | Driver::Over => return,
            }
        };
        steps.order.carry(self.asked);
        let (all, asked) = (steps.clone(), self.asked);
        steps.home.runtime.spawn(async move {
            let is_left = tokio::select! {
                biased;
                done = send => matches!(answer.send(done), Err(Ok(_))),
                () = answer.closed() => true,
            };
            if let Some(asked) = asked.filter(|_| is_left) {
                all.give_back(&id, asked.undo());
            }
            finished(&all, &id);
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
