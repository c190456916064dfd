//! Asking for a lock: what is asked for, and the way from there to the guard.
//!
//! The first poll asks the storage. Mostly the ticket is served at once, and the
//! answer is a guard; else the ticket stands in [line](crate::line) until its
//! turn comes.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::acquisition::{Acquisition, Issuance, Renewal};
use crate::backend::{Issue, Issued, Step};
use crate::config::{LONGEST_WAIT, check_lifetime, check_max_hold};
use crate::engine::{Engine, Leaving};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::place::InLine;
use crate::telemetry;

/// A request for a lock, to be awaited; see
/// [`LockStore::lock`](crate::LockStore::lock).
///
/// What is not set comes from the store's configuration. It owns what it needs,
/// so it can be spawned: `tokio::spawn(store.lock(id).into_future())`.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Request<M: Mode> {
    engine: Arc<Engine>,
    /// Until it is polled.
    conversation: Option<Result<ConversationId, LockError>>,
    options: Options,
    mode: PhantomData<M>,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    lifetime: Duration,
    /// `None` is as long as the lifetime.
    wait_timeout: Option<Duration>,
    keep_alive: bool,
    max_hold: Option<Duration>,
    /// Whether to join the queue if others are in it.
    queue: bool,
}

impl<M: Mode> Request<M> {
    #[inline]
    pub(crate) fn new(engine: &Arc<Engine>, conversation_id: &str) -> Self {
        let timing = &engine.timing;
        Self {
            conversation: Some(ConversationId::new(conversation_id)),
            options: Options {
                lifetime: timing.lock_lifetime,
                wait_timeout: timing.wait_timeout,
                keep_alive: timing.keep_alive,
                max_hold: timing.max_hold,
                queue: M::QUEUES,
            },
            engine: engine.clone(),
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

    /// For how long `keep_alive` extends the lease at most, from the turn on: a
    /// handler that hangs does not hold its conversation for ever. From 1 ms to
    /// 30 days; by default without limit. Extending by hand is not limited.
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.options.max_hold = Some(max_hold);
        self
    }

    /// What it asks for, once.
    #[inline]
    fn ask(&mut self) -> Result<Ask, LockError> {
        self.engine.check_open()?;
        check_lifetime(self.options.lifetime)?;
        self.options.max_hold.map_or(Ok(()), check_max_hold)?;
        let conversation = self
            .conversation
            .take()
            .unwrap_or_else(|| unreachable!("taken only once, when it is fresh"))?;
        Ok(Ask {
            conversation,
            owner: self.engine.next_owner(),
            requested: Instant::now(),
            options: self.options,
        })
    }
}

impl Request<Lock> {
    /// As [`LockStore::run`](crate::LockStore::run), with these options.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the work is dropped and then the lock is released.
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
            // The work was protected; the rest is done in the background.
            Err(error) if error.is_unavailable() => Ok(outcome),
            Err(error) => Err(error),
            Ok(()) => Ok(outcome),
        }
    }
}

impl<M: Mode> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("conversation", &self.conversation)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<M: Mode> IntoFuture for Request<M> {
    type Output = Result<M::Output, LockError>;
    type IntoFuture = Acquiring<M>;

    #[inline]
    fn into_future(self) -> Acquiring<M> {
        Acquiring {
            request: self,
            state: State::Fresh,
        }
    }
}

/// A [`Request`] under way.
///
/// Written by hand, so that an uncontended lock in memory is had in its first
/// poll, without allocating a future.
#[must_use = "futures do nothing unless polled"]
pub struct Acquiring<M: Mode> {
    request: Request<M>,
    state: State,
}

enum State {
    Fresh,
    Requested(Box<Requested>),
    InLine(InLine),
    Over,
}

/// A ticket that is being asked for.
struct Requested {
    engine: Arc<Engine>,
    reply: Option<Reply>,
    ask: Ask,
    /// Whether the storage sees after it by itself.
    is_timely: bool,
    /// When its owner gives up, if the storage does not see to that.
    gives_up: Option<Pin<Box<Sleep>>>,
    /// The calls that were missed before it was asked for.
    missed_calls: u64,
    /// How often wake-ups had come again when it was asked for.
    resumptions: u64,
}

type Reply = Pin<Box<dyn Future<Output = Result<Issued, LockError>> + Send>>;

// Nothing in it is pinned in place.
impl<M: Mode> Unpin for Acquiring<M> {}

impl<M: Mode> Future for Acquiring<M> {
    type Output = Result<M::Output, LockError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(self.state, State::Fresh) {
            return self.begin(cx);
        }
        self.go_on(cx)
    }
}

impl<M: Mode> Acquiring<M> {
    /// Asks for the ticket. The way of most messages ends in here.
    #[inline]
    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Output, LockError>> {
        let ask = match self.request.ask() {
            Ok(ask) => ask,
            Err(error) => return self.fail(error),
        };
        let engine = &self.request.engine;
        let missed_calls = engine.lines.missed_calls(&ask.conversation);
        let operation = telemetry::operation("issue");
        let issue = ask.issue(engine);
        let (reply, is_timely) = match engine.backend.issue(&ask.conversation, &issue) {
            Step::Done(Ok(Issued::Served {
                number,
                fencing_token,
            })) => {
                drop(operation);
                self.state = State::Over;
                let guard = ask.guard(engine.clone(), number, fencing_token);
                return Poll::Ready(Ok(M::served(guard)));
            }
            Step::Done(answer) => {
                drop(operation);
                let resumptions = engine.resumptions();
                return self.answered(answer, ask, missed_calls, resumptions, cx);
            }
            Step::Pending(reply) => (reply, false),
            Step::Timely(reply) => (reply, true),
        };
        // Its guard may be dropped outside of any runtime.
        let _home = engine.background.home.handle();
        if !is_timely {
            engine.is_requested(ask.owner, ask.options.lifetime);
        }
        let gives_up = ask.gives_up_at().filter(|_| !is_timely);
        self.state = State::Requested(Box::new(Requested {
            engine: engine.clone(),
            reply: Some(if telemetry::IS_MEASURED {
                Box::pin(async move {
                    let answer = reply.await;
                    drop(operation);
                    answer
                })
            } else {
                reply
            }),
            ask,
            is_timely,
            gives_up: gives_up.map(|at| Box::pin(sleep_until(at))),
            missed_calls,
            resumptions: engine.resumptions(),
        }));
        self.go_on(cx)
    }

    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Output, LockError>> {
        match &mut self.state {
            State::Requested(requested) => {
                let answer = ready!(requested.poll_answer(cx));
                let (ask, missed_calls, resumptions) = (
                    requested.ask.clone(),
                    requested.missed_calls,
                    requested.resumptions,
                );
                self.state = State::Over;
                self.answered(answer, ask, missed_calls, resumptions, cx)
            }
            State::InLine(line) => match ready!(line.poll_turn(cx)) {
                Ok(guard) => {
                    self.state = State::Over;
                    Poll::Ready(Ok(M::served(guard)))
                }
                Err(error) => self.fail(error),
            },
            State::Fresh | State::Over => panic!("polled after it was ready"),
        }
    }

    /// The storage has answered, or the owner has given up.
    fn answered(
        &mut self,
        answer: Result<Issued, LockError>,
        ask: Ask,
        missed_calls: u64,
        resumptions: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<M::Output, LockError>> {
        let engine = self.request.engine.clone();
        let outcome = match answer {
            Ok(Issued::Served {
                number,
                fencing_token,
            }) => {
                let guard = ask.guard(engine, number, fencing_token);
                guard.unless_lost().map(M::served)
            }
            Ok(Issued::Taken) => Ok(M::taken()),
            Ok(Issued::Waiting {
                number,
                fencing_token,
                ahead,
                look_again,
                behind,
            }) => {
                let head_dies_at = ask.requested + look_again;
                let asked = ask.requested;
                let acquisition = ask.acquisition(number, fencing_token, ahead, behind);
                let (line, missed_by_now) = InLine::join(engine.clone(), acquisition, head_dies_at);
                if missed_by_now != missed_calls || engine.resumptions() != resumptions {
                    // Its turn may have come before it could be called; or it is
                    // gone.
                    engine.recheck(&line.acquisition, asked.max(Instant::now()));
                }
                if M::WAITS {
                    self.state = State::InLine(line);
                    return self.go_on(cx);
                }
                Ok(M::in_line(line))
            }
            Err(error) => Err(error.for_conversation(&ask.conversation)),
        };
        match outcome {
            Ok(output) => {
                self.state = State::Over;
                Poll::Ready(Ok(output))
            }
            Err(error) => self.fail(error),
        }
    }

    #[cold]
    fn fail(&mut self, error: LockError) -> Poll<Result<M::Output, LockError>> {
        self.state = State::Over;
        telemetry::failed(&error);
        Poll::Ready(Err(error))
    }
}

impl Requested {
    /// The answer of the storage, or the error of an owner that gave up.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Issued, LockError>> {
        if let Some(reply) = &mut self.reply
            && let Poll::Ready(answer) = reply.as_mut().poll(cx)
        {
            let is_late = self
                .ask
                .gives_up_at()
                .is_some_and(|at| at <= Instant::now());
            if is_late && matches!(answer, Ok(Issued::Waiting { .. } | Issued::Served { .. })) {
                // Dropping it gives the ticket back.
                return Poll::Ready(Err(no_answer()));
            }
            if answer.is_ok() {
                self.reply = None;
            }
            return Poll::Ready(answer);
        }
        if let Some(gives_up) = &mut self.gives_up {
            ready!(gives_up.as_mut().poll(cx));
            return Poll::Ready(Err(no_answer()));
        }
        Poll::Pending
    }
}

fn no_answer() -> LockError {
    LockError::unavailable("no answer to the request for a ticket")
}

impl Drop for Requested {
    fn drop(&mut self) {
        if !self.is_timely {
            self.engine.is_answered(self.ask.owner);
        }
        // Unless it was answered, the ticket may be there.
        let Some(reply) = self.reply.take() else {
            return;
        };
        drop(reply);
        let ask = &self.ask;
        let leaving = Leaving {
            conversation: ask.conversation.clone(),
            owner: ask.owner,
            number: None,
            fencing_token: None,
            lifetime: ask.options.lifetime,
            held_until: None,
            first_finished: None,
            uncontended: None,
        };
        self.engine.give_back(&leaving, false);
    }
}

/// One acquisition that is being asked for.
#[derive(Clone)]
struct Ask {
    conversation: ConversationId,
    owner: Owner,
    requested: Instant,
    options: Options,
}

impl Ask {
    fn wait_timeout(&self) -> Duration {
        let wait = self.options.wait_timeout.unwrap_or(self.options.lifetime);
        wait.min(LONGEST_WAIT)
    }

    /// `None` for an owner that waits without limit.
    fn wait_until(&self) -> Option<Instant> {
        let wait = self.wait_timeout();
        (wait < LONGEST_WAIT).then(|| self.requested + wait)
    }

    /// When its owner gives up although there is no answer. One that does not
    /// wait at all still waits for the answer.
    fn gives_up_at(&self) -> Option<Instant> {
        self.wait_until().filter(|until| *until > self.requested)
    }

    #[inline]
    fn issue(&self, engine: &Engine) -> Issue {
        Issue {
            wait_timeout: self.wait_timeout(),
            queue: self.options.queue,
            asked: self.requested.into_std(),
            owner: Some(self.owner),
            lifetime: self.options.lifetime,
            claim_window: engine.timing.claim_window,
            least_token: None,
            repeated: false,
        }
    }

    fn ticket(self, number: u64, fencing_token: FencingToken) -> Issuance {
        telemetry::issued(&self.conversation, number);
        Issuance {
            conversation: self.conversation,
            owner: self.owner,
            number,
            fencing_token,
            behind: None,
            requested: self.requested,
        }
    }

    /// It was served at once.
    #[inline]
    fn guard(self, engine: Arc<Engine>, number: u64, token: FencingToken) -> LockGuard {
        let Options {
            lifetime,
            keep_alive,
            max_hold,
            ..
        } = self.options;
        let ticket = self.ticket(number, token);
        let requested = ticket.requested;
        telemetry::acquired(&ticket.conversation, number, false, || requested.elapsed());
        let guard = LockGuard::unwatched(engine, ticket, lifetime);
        if keep_alive {
            guard.keep_alive(max_hold);
        }
        guard
    }

    /// Others are ahead of it.
    fn acquisition(
        self,
        number: u64,
        token: FencingToken,
        ahead: u64,
        behind: FencingToken,
    ) -> Arc<Acquisition> {
        let wait_until = self.wait_until();
        let Options {
            lifetime,
            keep_alive,
            max_hold,
            ..
        } = self.options;
        let ticket = Issuance {
            behind: Some(behind),
            ..self.ticket(number, token)
        };
        let renewal = keep_alive.then_some(Renewal { max_hold });
        Acquisition::waiting(ticket, wait_until, lifetime, renewal, ahead)
    }
}

impl<M: Mode> fmt::Debug for Acquiring<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Fresh => "Fresh",
            State::Requested(_) => "Requested",
            State::InLine(_) => "InLine",
            State::Over => "Over",
        };
        f.debug_struct("Acquiring")
            .field("request", &self.request)
            .field("state", &state)
            .finish()
    }
}

/// What an answered request becomes.
///
/// Implemented by [`Lock`], [`TryLock`] and [`TakeTicket`], and by nothing else.
pub trait Mode: sealed::Answer {}

/// The mode of [`LockStore::lock`](crate::LockStore::lock).
#[derive(Debug)]
pub enum Lock {}

/// The mode of [`LockStore::try_lock`](crate::LockStore::try_lock).
#[derive(Debug)]
pub enum TryLock {}

/// The mode of [`LockStore::take_ticket`](crate::LockStore::take_ticket).
#[derive(Debug)]
pub enum TakeTicket {}

impl Mode for Lock {}
impl Mode for TryLock {}
impl Mode for TakeTicket {}

pub(crate) mod sealed {
    use crate::guard::LockGuard;
    use crate::place::{InLine, Place};

    #[allow(private_interfaces)] // sealed: no other crate calls it
    pub trait Answer: 'static {
        type Output: Send + 'static;
        /// Whether it joins the queue if others are in it.
        const QUEUES: bool;
        /// Whether it waits for its turn.
        const WAITS: bool;
        fn served(guard: LockGuard) -> Self::Output;
        fn taken() -> Self::Output;
        fn in_line(line: InLine) -> Self::Output;
    }

    #[allow(private_interfaces)]
    impl Answer for super::Lock {
        type Output = LockGuard;
        const QUEUES: bool = true;
        const WAITS: bool = true;

        fn served(guard: LockGuard) -> LockGuard {
            guard
        }

        fn taken() -> LockGuard {
            unreachable!("a request that queues is never told `Taken`")
        }

        fn in_line(_: InLine) -> LockGuard {
            unreachable!("it waits")
        }
    }

    #[allow(private_interfaces)]
    impl Answer for super::TryLock {
        type Output = Option<LockGuard>;
        const QUEUES: bool = false;
        const WAITS: bool = false;

        fn served(guard: LockGuard) -> Option<LockGuard> {
            Some(guard)
        }

        fn taken() -> Option<LockGuard> {
            None
        }

        /// One that is in line after all gives its ticket back.
        fn in_line(_: InLine) -> Option<LockGuard> {
            None
        }
    }

    #[allow(private_interfaces)]
    impl Answer for super::TakeTicket {
        type Output = Place;
        const QUEUES: bool = true;
        const WAITS: bool = false;

        fn served(guard: LockGuard) -> Place {
            Place::served(guard)
        }

        fn taken() -> Place {
            unreachable!("a request that queues is never told `Taken`")
        }

        fn in_line(line: InLine) -> Place {
            Place::in_line(line)
        }
    }
}
