//! From the request to the guard: the ticket is taken, and is served at once,
//! or waits in line.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::request::{Mode, Options, Request};
use super::{LONGEST_WAIT, Shared};
use crate::backend::{Issue, Issued, Step};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::telemetry;
use crate::wait::{Entry, InLine, Served};

impl<'s, M: Mode> IntoFuture for Request<'s, M> {
    type Output = Result<M::Output, LockError>;
    type IntoFuture = Acquiring<'s, M>;

    #[inline]
    fn into_future(self) -> Acquiring<'s, M> {
        Acquiring {
            request: self,
            state: State::Fresh,
        }
    }
}

/// A [`Request`] under way.
///
/// Written by hand, so that a lock that nobody else wants is had in its first
/// poll, without allocating a future.
#[must_use = "futures do nothing unless polled"]
pub struct Acquiring<'s, M: Mode> {
    request: Request<'s, M>,
    state: State,
}

enum State {
    Fresh,
    Asked(Box<Asked>),
    InLine(InLine),
    Over,
}

/// A ticket that is being asked for. The reply is dropped before the place in
/// line: whoever gives the ticket back must know that it may be there.
struct Asked {
    reply: Reply,
    ask: Ask,
    line: InLine,
    /// How often wake-ups had come again when it was asked for.
    resumptions: u64,
}

type Reply = Pin<Box<dyn Future<Output = Result<Issued, LockError>> + Send>>;

// Nothing in it is pinned in place.
impl<M: Mode> Unpin for Acquiring<'_, M> {}

impl<M: Mode> Future for Acquiring<'_, M> {
    type Output = Result<M::Output, LockError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(self.state, State::Fresh) {
            return self.ask(cx);
        }
        self.go_on(cx)
    }
}

impl<M: Mode> Acquiring<'_, M> {
    /// Takes the ticket. The way of most messages ends in here.
    #[inline]
    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Output, LockError>> {
        let store = self.request.store;
        let ask = match self.request.check() {
            Ok(conversation) => Ask {
                conversation,
                owner: store.next_owner(),
                asked: Instant::now(),
                options: self.request.options,
            },
            Err(error) => return self.fail(error),
        };
        let missed_calls = store.lines.missed_calls(&ask.conversation);
        let operation = telemetry::operation("issue");
        match store.backend.issue(&ask.conversation, &ask.issue(store)) {
            Step::Done(Ok(Issued::Served {
                number,
                fencing_token,
            })) => {
                drop(operation);
                self.state = State::Over;
                Poll::Ready(Ok(M::served(ask.guard(store, number, fencing_token))))
            }
            Step::Done(Ok(issued)) => {
                drop(operation);
                self.settle(ask.stand(store, missed_calls, &issued), cx)
            }
            Step::Done(Err(error)) => self.fail(error.for_conversation(&ask.conversation)),
            Step::Pending(reply) => {
                // Wake-ups may come before the reply, so the entry is in its
                // line before the request leaves.
                store.background.remember_runtime();
                let line = InLine::join(store.clone(), ask.entry(), None);
                self.state = State::Asked(Box::new(Asked {
                    reply: Box::pin(async move {
                        let answer = reply.await;
                        drop(operation);
                        answer
                    }),
                    ask,
                    line,
                    resumptions: store.resumptions(),
                }));
                self.go_on(cx)
            }
        }
    }

    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Output, LockError>> {
        match &mut self.state {
            State::Asked(asked) => match asked.reply.as_mut().poll(cx) {
                Poll::Ready(answer) => self.answered(answer, cx),
                Poll::Pending => match asked.line.entry.poll_served(cx) {
                    // Its turn came before the answer did.
                    Poll::Ready(Ok(_)) => {
                        if let State::Asked(asked) = std::mem::replace(&mut self.state, State::Over)
                        {
                            self.state = State::InLine(asked.line);
                        }
                        self.go_on(cx)
                    }
                    // Its time is over before the storage answers. Dropping it
                    // gives the ticket back, if there is one.
                    Poll::Ready(Err(error)) => self.fail(error),
                    Poll::Pending => {
                        let store = self.request.store;
                        store.alarms.keep_running(&store.me);
                        Poll::Pending
                    }
                },
            },
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

    /// The storage has answered.
    fn answered(
        &mut self,
        answer: Result<Issued, LockError>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<M::Output, LockError>> {
        let State::Asked(asked) = std::mem::replace(&mut self.state, State::Over) else {
            return Poll::Pending;
        };
        let Asked {
            ask,
            line,
            resumptions,
            ..
        } = *asked;
        let standing = answer
            .map_err(|error| error.for_conversation(&ask.conversation))
            .and_then(|issued| ask.stand_in(self.request.store, line, resumptions, &issued));
        match standing {
            Ok(standing) => self.settle(standing, cx),
            Err(error) => self.fail(error),
        }
    }

    fn settle(
        &mut self,
        standing: Standing,
        cx: &mut Context<'_>,
    ) -> Poll<Result<M::Output, LockError>> {
        match M::settle(standing) {
            Settled::Now(output) => {
                self.state = State::Over;
                Poll::Ready(Ok(output))
            }
            Settled::AtItsTurn(line) => {
                self.state = State::InLine(line);
                self.go_on(cx)
            }
        }
    }

    #[cold]
    fn fail(&mut self, error: LockError) -> Poll<Result<M::Output, LockError>> {
        self.state = State::Over;
        telemetry::failed(&error);
        Poll::Ready(Err(error))
    }
}

/// Where a ticket stands that was not served at once by a storage that
/// answers at once.
pub(crate) enum Standing {
    Served(LockGuard),
    InLine(InLine),
    Taken,
}

/// What becomes of a standing, now or later.
pub(crate) enum Settled<T> {
    Now(T),
    AtItsTurn(InLine),
}

/// One acquisition that is being asked for.
struct Ask {
    conversation: ConversationId,
    owner: Owner,
    asked: Instant,
    options: Options,
}

impl Ask {
    fn wait_timeout(&self) -> Duration {
        let wait = self.options.wait_timeout.unwrap_or(self.options.lifetime);
        wait.min(LONGEST_WAIT)
    }

    #[inline]
    fn issue(&self, store: &Shared) -> Issue {
        Issue {
            owner: Some(self.owner),
            lifetime: self.options.lifetime,
            wait_timeout: self.wait_timeout(),
            claim_window: store.timing.claim_window,
            queue: self.options.queue,
            repeated: false,
            asked: self.asked.into_std(),
        }
    }

    /// What watches over it, in its line.
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

    /// It was served at once.
    #[inline]
    fn guard(self, store: &Arc<Shared>, number: u64, token: FencingToken) -> LockGuard {
        self.tell_served(number);
        let served = self.served(number, token);
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

    /// It was not served by a storage that answers at once.
    #[cold]
    fn stand(self, store: &Arc<Shared>, missed_calls: u64, issued: &Issued) -> Standing {
        let &Issued::Waiting {
            number,
            fencing_token,
            ahead,
            look_again,
        } = issued
        else {
            return Standing::Taken;
        };
        telemetry::issued(&self.conversation, number);
        let entry = self.entry();
        // New, so it cannot be over.
        let _ = entry.set_ticket(number, fencing_token, ahead);
        let head_dies_at = Some(self.asked + look_again);
        let mut line = InLine::join(store.clone(), entry, head_dies_at);
        line.count_as_waiting();
        if line.missed_calls != missed_calls {
            // Its turn may have come before it could be called; or it is gone.
            store.look_again(&line.entry, self.asked);
        }
        Standing::InLine(line)
    }

    /// The storage took its time to answer, and the entry is in its line.
    fn stand_in(
        self,
        store: &Shared,
        mut line: InLine,
        resumptions: u64,
        issued: &Issued,
    ) -> Result<Standing, LockError> {
        Ok(match *issued {
            Issued::Served {
                number,
                fencing_token,
            } => {
                let guard = line.served_at_once(self.served(number, fencing_token))?;
                self.tell_served(number);
                Standing::Served(guard)
            }
            Issued::Waiting {
                number,
                fencing_token,
                ahead,
                look_again,
            } => {
                telemetry::issued(&self.conversation, number);
                line.entry.set_ticket(number, fencing_token, ahead)?;
                line.count_as_waiting();
                let (id, asked) = (&self.conversation, self.asked);
                store
                    .lines
                    .head_dies_at(id, asked + look_again, asked, store);
                if store.resumptions() != resumptions {
                    store.look_again(&line.entry, Instant::now());
                }
                Standing::InLine(line)
            }
            Issued::Taken => {
                line.without_ticket();
                Standing::Taken
            }
        })
    }

    #[inline]
    fn tell_served(&self, number: u64) {
        let asked = self.asked;
        telemetry::issued(&self.conversation, number);
        telemetry::acquired(&self.conversation, number, false, || asked.elapsed());
    }

    #[inline]
    fn served(&self, number: u64, fencing_token: FencingToken) -> Served {
        Served {
            number,
            fencing_token,
            asked: self.asked,
        }
    }
}

impl<M: Mode> fmt::Debug for Acquiring<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Fresh => "Fresh",
            State::Asked(..) => "Asked",
            State::InLine(_) => "InLine",
            State::Over => "Over",
        };
        f.debug_struct("Acquiring")
            .field("request", &self.request)
            .field("state", &state)
            .finish()
    }
}
