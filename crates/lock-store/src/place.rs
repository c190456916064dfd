//! A place in line: taken now, waited for later.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::acquisition::{Acquisition, Lease};
use crate::backend::Claimed;
use crate::engine::{Engine, Leaving};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::FencingToken;
use crate::telemetry;

/// A place in a conversation's line, from
/// [`LockStore::take_ticket`](crate::LockStore::take_ticket).
///
/// The order is settled: whoever takes a ticket later is served later, however
/// late [`wait`](Self::wait) is called. When the turn comes the store claims
/// it, and the lease runs from then on, so `wait` should not be put off for
/// longer than a lifetime unless `keep_alive` is on. The wait timeout runs from
/// the ticket on, whether `wait` was called or not.
///
/// Dropping it gives the ticket back.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// let store = lock_store::LockStore::in_memory();
/// let first = store.take_ticket("conversation-42").await?;
/// let second = store.take_ticket("conversation-42").await?;
/// assert_eq!(second.position().await?, 1);
/// assert!(first.fencing_token() < second.fencing_token());
///
/// let guard = first.wait().await?;
/// assert_eq!(guard.ticket_number(), 0);
/// guard.release().await?;
/// assert_eq!(second.wait().await?.ticket_number(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a place gives its ticket back"]
pub struct Place(Turn);

#[derive(Debug)]
enum Turn {
    Served(LockGuard),
    InLine(InLine),
}

impl Place {
    pub(crate) fn served(guard: LockGuard) -> Self {
        Self(Turn::Served(guard))
    }

    pub(crate) fn in_line(line: InLine) -> Self {
        Self(Turn::InLine(line))
    }

    /// Waits for the turn.
    ///
    /// # Errors
    ///
    /// Timed out, gone, lost (its turn came and its lease ran out before this
    /// was called), or what the storage says.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the ticket is given back in the background.
    pub async fn wait(self) -> Result<LockGuard, LockError> {
        let outcome = match self.0 {
            Turn::Served(guard) => guard.unless_lost(),
            Turn::InLine(mut line) => poll_fn(|cx| line.poll_turn(cx)).await,
        };
        outcome.inspect_err(telemetry::failed)
    }

    /// How many tickets are ahead, as the storage knows it now; 0 when the
    /// turn has come.
    ///
    /// # Errors
    ///
    /// What [`wait`](Self::wait) would say, or what the storage says.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; the ticket stays in line.
    pub async fn position(&self) -> Result<u64, LockError> {
        match &self.0 {
            Turn::Served(_) => Ok(0),
            Turn::InLine(line) => line.position().await,
        }
    }

    /// The number on the ticket.
    pub fn ticket_number(&self) -> u64 {
        match &self.0 {
            Turn::Served(guard) => guard.ticket_number(),
            Turn::InLine(line) => line.acquisition.ticket.number,
        }
    }

    /// The fencing token that its guard will have.
    pub fn fencing_token(&self) -> FencingToken {
        match &self.0 {
            Turn::Served(guard) => guard.fencing_token(),
            Turn::InLine(line) => line.acquisition.ticket.fencing_token,
        }
    }
}

/// An acquisition in its line. Leaves it when dropped.
#[derive(Debug)]
pub(crate) struct InLine {
    engine: Arc<Engine>,
    pub(crate) acquisition: Arc<Acquisition>,
    counted: Option<CountedAsWaiting>,
    /// Whether the ticket is still ours to give back.
    is_ours: bool,
}

impl InLine {
    /// Puts an acquisition in its line; the head of the queue dies at
    /// `head_dies_at`. Returns the calls that were missed before, too: see
    /// [`Lines::missed_calls`](crate::line::Lines::missed_calls).
    pub(crate) fn join(
        engine: Arc<Engine>,
        acquisition: Arc<Acquisition>,
        head_dies_at: Instant,
    ) -> (Self, u64) {
        let missed_calls = engine
            .lines
            .add(acquisition.clone(), Some(head_dies_at), &engine);
        let line = Self {
            counted: Some(CountedAsWaiting::begin(&acquisition)),
            engine,
            acquisition,
            is_ours: true,
        };
        (line, missed_calls)
    }

    /// Waits for the turn. Not to be polled again when it is ready.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<LockGuard, LockError>> {
        let answer = match self.acquisition.poll_served(cx) {
            Poll::Pending => {
                self.engine.keep_running();
                return Poll::Pending;
            }
            Poll::Ready(answer) => answer,
        };
        self.counted = None;
        // What ended the acquisition with an error gave the ticket back.
        self.is_ours = false;
        Poll::Ready(answer.and_then(|()| {
            let ticket = &self.acquisition.ticket;
            telemetry::acquired(&ticket.conversation, ticket.number, true, || {
                ticket.requested.elapsed()
            });
            let (engine, acquisition) = (self.engine.clone(), self.acquisition.clone());
            LockGuard::watched(engine, acquisition).unless_lost()
        }))
    }

    async fn position(&self) -> Result<u64, LockError> {
        let acquisition = &self.acquisition;
        if !acquisition.is_waiting() {
            return self.settled_position();
        }
        let asked = Instant::now();
        let lifetime = acquisition.lifetime();
        let claim = self.engine.claim_for(acquisition, lifetime, asked);
        let id = &acquisition.ticket.conversation;
        let answer = self.engine.backend.claim(id, &claim).resolve().await;
        let told = answer.clone();
        self.engine
            .on_claimed(acquisition, asked, lifetime, false, answer);
        match told {
            Ok(Claimed::Waiting { ahead, .. }) if acquisition.is_waiting() => Ok(ahead),
            Err(error) => Err(error.for_conversation(id)),
            Ok(_) => self.settled_position(),
        }
    }

    fn settled_position(&self) -> Result<u64, LockError> {
        match self.acquisition.lease() {
            Lease::Until(_) => Ok(0),
            Lease::Over(error) => Err(error),
        }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        let (engine, acquisition) = (&self.engine, &self.acquisition);
        let standing = engine.release(acquisition);
        let leaving = Leaving {
            held_until: standing.held_until(),
            first_finished: standing.first_finished,
            ..Engine::leaving(acquisition)
        };
        engine.give_back(&leaving, false);
    }
}

/// Counts an acquisition as waiting for as long as it lives.
#[derive(Debug)]
struct CountedAsWaiting(());

impl CountedAsWaiting {
    fn begin(acquisition: &Acquisition) -> Self {
        let ticket = &acquisition.ticket;
        telemetry::waiting(&ticket.conversation, ticket.number, acquisition.ahead());
        Self(())
    }
}

impl Drop for CountedAsWaiting {
    fn drop(&mut self) {
        telemetry::no_longer_waiting();
    }
}
