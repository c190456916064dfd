//! A place in line: a ticket that is waiting, or whose turn has come.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Entry;
use super::entry::{CountedAsWaiting, Served};
use crate::backend::Claimed;
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::FencingToken;
use crate::store::Shared;
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
pub struct Place {
    standing: PlaceStanding,
}

#[derive(Debug)]
enum PlaceStanding {
    Served(LockGuard),
    InLine(InLine),
}

impl Place {
    pub(crate) fn served(guard: LockGuard) -> Self {
        let standing = PlaceStanding::Served(guard);
        Self { standing }
    }

    pub(crate) fn in_line(line: InLine) -> Self {
        let standing = PlaceStanding::InLine(line);
        Self { standing }
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
        let outcome = match self.standing {
            PlaceStanding::Served(guard) => guard.unless_lost(),
            PlaceStanding::InLine(mut line) => poll_fn(|cx| line.poll_turn(cx)).await,
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
        match &self.standing {
            PlaceStanding::Served(_) => Ok(0),
            PlaceStanding::InLine(line) => line.position().await,
        }
    }

    /// The number on the ticket.
    pub fn ticket_number(&self) -> u64 {
        match &self.standing {
            PlaceStanding::Served(guard) => guard.ticket_number(),
            PlaceStanding::InLine(line) => line.entry.number(),
        }
    }

    /// The fencing token that its guard will have.
    pub fn fencing_token(&self) -> FencingToken {
        match &self.standing {
            PlaceStanding::Served(guard) => guard.fencing_token(),
            PlaceStanding::InLine(line) => line.entry.fencing_token(),
        }
    }
}

/// An entry in its line. Leaves it when dropped.
#[derive(Debug)]
pub(crate) struct InLine {
    store: Arc<Shared>,
    pub(crate) entry: Arc<Entry>,
    /// The calls that were missed before it joined; see
    /// [`Lines::missed_calls`](super::Lines::missed_calls).
    pub(crate) missed_calls: u64,
    counted: Option<CountedAsWaiting>,
    /// Whether the ticket is still ours to give back.
    armed: bool,
}

impl InLine {
    /// Puts `entry` in its line, before or after its ticket is issued; the
    /// head of the queue dies at `head_dies_at`, if that is known.
    pub(crate) fn join(
        store: Arc<Shared>,
        entry: Arc<Entry>,
        head_dies_at: Option<Instant>,
    ) -> Self {
        let missed_calls = store.lines.add(entry.clone(), head_dies_at, &store);
        Self {
            store,
            entry,
            missed_calls,
            counted: None,
            armed: true,
        }
    }

    /// The ticket is there, and others are ahead.
    pub(crate) fn count_as_waiting(&mut self) {
        self.store.lines.is_issued(&self.entry, &self.store);
        self.counted = Some(CountedAsWaiting::begin(&self.entry));
    }

    async fn position(&self) -> Result<u64, LockError> {
        if !self.entry.is_waiting() {
            return self.settled_position();
        }
        let asked = Instant::now();
        let entry = &self.entry;
        let lifetime = entry.lifetime();
        let claim = self.store.claim_for(entry, lifetime, asked);
        let answer = self.store.backend.claim(&entry.conversation, &claim);
        let answer = answer.resolve().await;
        let ahead = answer.as_ref().ok().copied();
        let error = answer.as_ref().err().cloned();
        self.store.on_claimed(&self.entry, asked, lifetime, answer);
        match (ahead, error) {
            (Some(Claimed::Waiting { ahead, .. }), _) => Ok(ahead),
            (_, Some(error)) => Err(error.for_conversation(&self.entry.conversation)),
            _ => self.settled_position(),
        }
    }

    fn settled_position(&self) -> Result<u64, LockError> {
        match self.entry.lease() {
            super::Lease::Until(_) => Ok(0),
            super::Lease::Over(error) => Err(error),
        }
    }

    /// The ticket is served as soon as it is issued. If its owner has given up
    /// by now, dropping this gives the ticket back once more: the first time
    /// it may not have been there.
    pub(crate) fn served_at_once(mut self, served: Served) -> Result<LockGuard, LockError> {
        let Served {
            number,
            fencing_token,
            asked,
        } = served;
        let lifetime = self.entry.lifetime();
        self.entry.serve(number, fencing_token, asked, lifetime);
        match self.entry.lease() {
            super::Lease::Over(error) => return Err(error),
            super::Lease::Until(until) if until <= Instant::now() => {
                return Err(LockError::lost(&self.entry.conversation));
            }
            super::Lease::Until(_) => {}
        }
        self.store.schedule_renewal(&self.entry);
        self.armed = false;
        Ok(self.guard(served))
    }

    /// No ticket was issued.
    pub(crate) fn without_ticket(mut self) {
        self.armed = false;
        self.store.retire(&self.entry);
    }

    /// Waits for the turn. Not to be polled again when it is ready.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<LockGuard, LockError>> {
        let answer = match self.entry.poll_served(cx) {
            Poll::Pending => {
                self.store.alarms.keep_running(&self.store.me);
                return Poll::Pending;
            }
            Poll::Ready(answer) => answer,
        };
        self.counted = None;
        // Whoever ended the entry with an error gave the ticket back.
        self.armed = false;
        Poll::Ready(answer.and_then(|served| {
            let entry = &self.entry;
            telemetry::acquired(&entry.conversation, served.number, true, || {
                entry.started.elapsed()
            });
            self.guard(served).unless_lost()
        }))
    }

    fn guard(&self, served: Served) -> LockGuard {
        LockGuard::watched(self.store.clone(), self.entry.clone(), served)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (store, entry) = (&self.store, &self.entry);
        store.retire(entry);
        store.finish_in_background(&entry.conversation, entry.leaving(), false);
    }
}
