//! Asking for a lock: the options, and the way from the ticket to the guard.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{LONGEST_WAIT, LockStore, Shared, check_lifetime};
use crate::backend::{Issue, Issued, Step};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::{ConversationId, Owner};
use crate::telemetry;
use crate::wait::{Entry, InLine, Place, Served};

/// A request for a lock, to be awaited; see [`LockStore::lock`].
///
/// What is not set comes from the store's configuration.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Request<'s, M: Mode> {
    store: &'s Arc<Shared>,
    conversation: Result<ConversationId, LockError>,
    options: Options,
    mode: PhantomData<M>,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    lifetime: Duration,
    /// `None` is as long as the lifetime.
    wait_timeout: Option<Duration>,
    keep_alive: bool,
    /// Whether to join the queue if somebody is in it.
    queue: bool,
}

impl<'s, M: Mode> Request<'s, M> {
    pub(super) fn new(store: &'s LockStore, conversation_id: &str) -> Self {
        let timing = &store.shared.timing;
        Self {
            store: &store.shared,
            conversation: ConversationId::new(conversation_id),
            options: Options {
                lifetime: timing.lock_lifetime,
                wait_timeout: timing.wait_timeout,
                keep_alive: timing.keep_alive,
                queue: M::QUEUES,
            },
            mode: PhantomData,
        }
    }

    /// How long the lease is: from the turn on, waiting not included. From
    /// 1 ms to 30 days.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.options.lifetime = lifetime;
        self
    }

    /// How long to wait for the turn at most. 30 days or more, such as
    /// [`Duration::MAX`], is without limit.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.options.wait_timeout = Some(wait_timeout);
        self
    }

    /// Whether the store extends the lease, every third of the lifetime, until
    /// the lock is released or lost.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }
}

impl Request<'_, Lock> {
    /// As [`LockStore::run`], with these options.
    pub async fn run<T>(self, work: impl AsyncFnOnce(&LockGuard) -> T) -> Result<T, LockError> {
        let guard = self.await?;
        let outcome = {
            let work = pin!(work(&guard));
            let lost = pin!(guard.lost());
            tokio::select! {
                biased;
                value = work => Ok(value),
                error = lost => Err(error),
            }
        }?;
        match guard.release().await {
            Err(error) if error.is_lost() => Err(error),
            // The work was protected; the rest is done in the background.
            Err(_) | Ok(()) => Ok(outcome),
        }
    }
}

/// What an answered request becomes.
///
/// Implemented by [`Lock`], [`TryLock`] and [`TakeTicket`], and by nothing else.
pub trait Mode: sealed::Settle {}

/// The mode of [`LockStore::lock`].
#[derive(Debug)]
pub enum Lock {}

/// The mode of [`LockStore::try_lock`].
#[derive(Debug)]
pub enum TryLock {}

/// The mode of [`LockStore::take_ticket`].
#[derive(Debug)]
pub enum TakeTicket {}

impl Mode for Lock {}
impl Mode for TryLock {}
impl Mode for TakeTicket {}

/// Where a ticket stands right after it was asked for.
pub(crate) enum Standing {
    Served(LockGuard),
    InLine(InLine),
    Taken,
}

pub(crate) mod sealed {
    use super::{LockGuard, Place, Standing, Step};

    pub trait Settle: 'static {
        type Output: Send + 'static;
        const QUEUES: bool;
        #[allow(private_interfaces)]
        fn settle(standing: Standing) -> Step<Self::Output>;
    }

    impl Settle for super::Lock {
        type Output = LockGuard;
        const QUEUES: bool = true;

        #[allow(private_interfaces)]
        fn settle(standing: Standing) -> Step<LockGuard> {
            match standing {
                Standing::Served(guard) => Step::ready(guard),
                Standing::InLine(line) => Step::pending(line.wait()),
                Standing::Taken => unreachable!("a request that queues is never told `Taken`"),
            }
        }
    }

    impl Settle for super::TryLock {
        type Output = Option<LockGuard>;
        const QUEUES: bool = false;

        #[allow(private_interfaces)]
        fn settle(standing: Standing) -> Step<Option<LockGuard>> {
            match standing {
                Standing::Served(guard) => Step::ready(Some(guard)),
                // Whoever is in line after all gives the ticket back.
                Standing::InLine(_) | Standing::Taken => Step::ready(None),
            }
        }
    }

    impl Settle for super::TakeTicket {
        type Output = Place;
        const QUEUES: bool = true;

        #[allow(private_interfaces)]
        fn settle(standing: Standing) -> Step<Place> {
            match standing {
                Standing::Served(guard) => Step::ready(Place::served(guard)),
                Standing::InLine(line) => Step::ready(Place::in_line(line)),
                Standing::Taken => unreachable!("a request that queues is never told `Taken`"),
            }
        }
    }
}

impl<'s, M: Mode> IntoFuture for Request<'s, M> {
    type Output = Result<M::Output, LockError>;
    type IntoFuture = Acquiring<'s, M>;

    fn into_future(self) -> Acquiring<'s, M> {
        Acquiring(State::Fresh(self))
    }
}

/// A [`Request`] under way.
///
/// Written by hand, so that a lock that nobody else wants is had in its first
/// poll, without allocating a future.
#[must_use = "futures do nothing unless polled"]
pub struct Acquiring<'s, M: Mode>(State<'s, M>);

enum State<'s, M: Mode> {
    Fresh(Request<'s, M>),
    Later(Pin<Box<dyn Future<Output = Result<M::Output, LockError>> + Send>>),
    Over,
}

// Nothing in it is pinned in place.
impl<M: Mode> Unpin for Acquiring<'_, M> {}

impl<M: Mode> Future for Acquiring<'_, M> {
    type Output = Result<M::Output, LockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut later = match std::mem::replace(&mut self.0, State::Over) {
            State::Fresh(request) => match request.begin() {
                Step::Done(answer) => return Poll::Ready(answer.inspect_err(telemetry::failed)),
                Step::Pending(later) => later,
            },
            State::Later(later) => later,
            State::Over => unreachable!("polled after it was ready"),
        };
        match later.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer.inspect_err(telemetry::failed)),
            Poll::Pending => {
                self.0 = State::Later(later);
                Poll::Pending
            }
        }
    }
}

impl<M: Mode> Request<'_, M> {
    fn begin(self) -> Step<M::Output> {
        match self.take_ticket() {
            Step::Done(Ok(standing)) => M::settle(standing),
            Step::Done(Err(error)) => Step::Done(Err(error)),
            Step::Pending(standing) => {
                Step::pending(async move { M::settle(standing.await?).resolve().await })
            }
        }
    }

    fn take_ticket(self) -> Step<Standing> {
        let checked = self.store.check_open().and_then(|()| {
            check_lifetime(self.options.lifetime)?;
            self.conversation
        });
        match checked {
            Ok(conversation) => take_ticket(self.store, conversation, self.options),
            Err(error) => Step::Done(Err(error)),
        }
    }
}

fn take_ticket(
    store: &Arc<Shared>,
    conversation: ConversationId,
    options: Options,
) -> Step<Standing> {
    let ask = Ask {
        owner: store.next_owner(),
        asked: Instant::now(),
        conversation,
        options,
    };
    let operation = telemetry::operation("issue");
    match store.backend.issue(&ask.issue(store)) {
        Step::Done(answer) => {
            drop(operation);
            Step::Done(answer.map(|issued| ask.settle(store, issued, None)))
        }
        Step::Pending(reply) => {
            store.background.remember_runtime();
            // Wake-ups may come before the reply, so the entry is in its line
            // before the request leaves.
            let line = InLine::join(store.clone(), ask.entry());
            let store = store.clone();
            Step::pending(async move {
                let answer = reply.await;
                drop(operation);
                let issued = answer.map_err(|error| error.for_conversation(&ask.conversation))?;
                Ok(ask.settle(&store, issued, Some(line)))
            })
        }
    }
}

/// One acquisition that is being asked for.
struct Ask {
    owner: Owner,
    asked: Instant,
    conversation: ConversationId,
    options: Options,
}

impl Ask {
    fn wait_timeout(&self) -> Duration {
        let wait = self.options.wait_timeout.unwrap_or(self.options.lifetime);
        wait.min(LONGEST_WAIT)
    }

    fn issue(&self, store: &Shared) -> Issue {
        Issue {
            conversation: self.conversation.clone(),
            owner: Some(self.owner),
            lifetime: self.options.lifetime,
            wait_timeout: self.wait_timeout(),
            claim_window: store.timing.claim_window,
            queue: self.options.queue,
            repeated: false,
        }
    }

    fn entry(&self) -> Arc<Entry> {
        let wait = self.wait_timeout();
        Entry::waiting(
            self.conversation.clone(),
            self.owner,
            self.asked,
            (wait < LONGEST_WAIT).then(|| self.asked + wait),
            self.options.lifetime,
            self.options.keep_alive,
        )
    }

    /// Makes of the answer a guard or a place in line. `line` is there if the
    /// answer took its time.
    fn settle(self, store: &Arc<Shared>, issued: Issued, line: Option<InLine>) -> Standing {
        match issued {
            Issued::Served {
                number,
                fencing_token,
            } => {
                let (asked, lifetime) = (self.asked, self.options.lifetime);
                telemetry::issued(&self.conversation, number);
                telemetry::acquired(&self.conversation, number, false, || asked.elapsed());
                let served = Served {
                    number,
                    fencing_token,
                    asked,
                    until: asked + lifetime,
                };
                Standing::Served(match line {
                    Some(line) => line.served_at_once(served),
                    None => self.guard(store, served),
                })
            }
            Issued::Waiting {
                number,
                fencing_token,
                ahead,
                look_again,
            } => {
                telemetry::issued(&self.conversation, number);
                let in_line_before = line.is_some();
                let mut line = line.unwrap_or_else(|| InLine::join(store.clone(), self.entry()));
                line.entry.set_ticket(number, fencing_token, ahead);
                line.count_as_waiting();
                let look_at = Instant::now() + look_again;
                store.lines.head_dies_at(&self.conversation, look_at, store);
                if !in_line_before {
                    // Its turn may have come before it could be woken.
                    store.claim(&line.entry);
                }
                Standing::InLine(line)
            }
            Issued::Taken => {
                if let Some(line) = line {
                    line.without_ticket();
                }
                Standing::Taken
            }
        }
    }

    fn guard(self, store: &Arc<Shared>, served: Served) -> LockGuard {
        let guard = LockGuard::unwatched(
            store.clone(),
            self.conversation,
            self.owner,
            served,
            self.options.lifetime,
        );
        if self.options.keep_alive {
            guard.keep_alive();
        }
        guard
    }
}

impl<M: Mode> fmt::Debug for Request<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("conversation", &self.conversation)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<M: Mode> fmt::Debug for Acquiring<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Fresh(_) => "Fresh",
            State::Later(_) => "Later",
            State::Over => "Over",
        };
        f.debug_tuple("Acquiring").field(&state).finish()
    }
}
