//! The worker of a conversation: takes its messages one after the other,
//! waits for the turn of each, and has it processed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_store::{ConversationId, LockError, LockGuard, Place};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::handler::Handler;
use super::message::Message;
use super::outcome::Outcome;
use super::output::Output;
use super::progress::InProgress;
use super::stop::{NotBegun, Stop, Stopped};
use crate::settings::TicketOptions;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) tickets: TicketOptions,
    pub(crate) handler: Handler,
    /// One permit for each message that may be processed at once; first come,
    /// first served.
    pub(crate) slots: Semaphore,
    pub(crate) output: Output,
    pub(crate) in_progress: InProgress,
    pub(crate) stop: Stop,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
}

/// What a worker is given, in the order in which the tickets were taken.
pub(crate) enum Work {
    Message(Box<Message>, Instant, Taken),
    /// Instead of one that was lost.
    Ticket(Taken),
}

/// A ticket, or why none could be taken.
pub(crate) type Taken = Result<Place, LockError>;

/// What a worker tells the dispatcher.
pub(crate) enum Report {
    /// A message has its line.
    Done(Done),
    /// A ticket was lost before its message was begun, and another one is
    /// needed.
    TicketLost(ConversationId),
}

/// A message that is done.
pub(crate) struct Done {
    pub(crate) id: ConversationId,
    pub(crate) bytes: usize,
    pub(crate) waited: Duration,
    pub(crate) ok: bool,
}

/// The worker. Messages and tickets of a conversation are both in order, but
/// not tied to each other: if a ticket is lost, its message takes the next
/// one, so that no message overtakes another.
pub(crate) struct Worker {
    id: ConversationId,
    shared: Arc<Shared>,
    work: mpsc::UnboundedReceiver<Work>,
    messages: VecDeque<(Box<Message>, Instant)>,
    tickets: VecDeque<Taken>,
}

impl Worker {
    pub(crate) fn new(
        id: ConversationId,
        shared: Arc<Shared>,
        work: mpsc::UnboundedReceiver<Work>,
    ) -> Self {
        Self {
            id,
            shared,
            work,
            messages: VecDeque::new(),
            tickets: VecDeque::new(),
        }
    }

    /// Works until there is no more, or until the stop; then returns what it
    /// did not begin.
    pub(crate) async fn run(mut self) -> NotBegun {
        let shared = self.shared.clone();
        let mut stopped = shared.stop.listen();
        while let Some((message, taken)) = self.next_message(&mut stopped).await {
            let turn = tokio::select! {
                biased;
                () = stopped.wait() => {
                    self.messages.push_front((message, taken));
                    break;
                }
                turn = self.turn(&shared.slots) => turn,
            };
            let done = process(&shared, &message, taken, turn).await;
            // The dispatcher is there for as long as its workers.
            let _ = shared.reports.send(Report::Done(done));
        }
        self.leave()
    }

    async fn next_message(&mut self, stopped: &mut Stopped) -> Option<(Box<Message>, Instant)> {
        while self.messages.is_empty() {
            let work = tokio::select! {
                biased;
                () = stopped.wait() => None,
                work = self.work.recv() => work,
            }?;
            self.accept(work);
        }
        self.messages.pop_front()
    }

    fn accept(&mut self, work: Work) {
        let ticket = match work {
            Work::Message(message, taken, ticket) => {
                self.messages.push_back((message, taken));
                ticket
            }
            Work::Ticket(ticket) => ticket,
        };
        self.tickets.push_back(ticket);
    }

    /// Waits for the turn of the conversation, and then for a slot: what
    /// waits for its turn takes no slot.
    async fn turn<'s>(
        &mut self,
        slots: &'s Semaphore,
    ) -> Result<(LockGuard, SemaphorePermit<'s>), LockError> {
        loop {
            match self.next_ticket().await?.wait().await {
                Ok(guard) => {
                    if let Some(slot) = self.slot(slots, &guard).await {
                        return Ok((guard, slot));
                    }
                }
                Err(error) if error.is_gone() || error.is_lost() => {
                    tracing::info!(%error, "taking another ticket");
                }
                Err(error) => return Err(error),
            }
            let lost = Report::TicketLost(self.id.clone());
            let _ = self.shared.reports.send(lost);
        }
    }

    /// Waits for a slot; `None` if the lock was lost meanwhile.
    async fn slot<'s>(
        &self,
        slots: &'s Semaphore,
        guard: &LockGuard,
    ) -> Option<SemaphorePermit<'s>> {
        if let Ok(slot) = slots.try_acquire() {
            return (!guard.is_lost()).then_some(slot);
        }
        // Never closed, so there will be one.
        let slot = slots.acquire().await.ok()?;
        let TicketOptions {
            lifetime,
            keep_alive,
            ..
        } = self.shared.tickets;
        if !keep_alive && let Err(error) = guard.extend(lifetime).await {
            // Its processing has what is left of its lease.
            tracing::info!(%error, "a whole lease from here on");
        }
        (!guard.is_lost()).then_some(slot)
    }

    /// There is one for each message, and one is on its way for each that was
    /// lost. When dropped, no ticket is lost.
    async fn next_ticket(&mut self) -> Taken {
        loop {
            if let Some(ticket) = self.tickets.pop_front() {
                return ticket;
            }
            match self.work.recv().await {
                Some(work) => self.accept(work),
                // Only after the stop.
                None => std::future::pending().await,
            }
        }
    }

    /// Gives the tickets back, and says what was not begun.
    fn leave(mut self) -> NotBegun {
        self.work.close();
        while let Ok(work) = self.work.try_recv() {
            self.accept(work);
        }
        let mut left = NotBegun::default();
        for (message, _) in &self.messages {
            left.add(message.seq);
        }
        left
    }
}

/// Processes a message whose turn has come, and writes its line while the
/// lock is held, so that the lines of a conversation are in order.
async fn process(
    shared: &Shared,
    message: &Message,
    taken: Instant,
    turn: Result<(LockGuard, SemaphorePermit<'_>), LockError>,
) -> Done {
    let begun = Instant::now();
    let waited = begun - taken;
    let outcome = |turn, response| Outcome {
        turn,
        waited,
        held: begun.elapsed(),
        response,
    };
    let ok = match turn {
        Ok((guard, slot)) => {
            let in_progress = shared.in_progress.begin();
            let response = shared.handler.handle(message, &guard).await;
            let ok = response.is_ok();
            let turn = (guard.ticket_number(), guard.fencing_token().get());
            let line = outcome(Some(turn), response).line(message);
            shared.output.write(line).await;
            // In this order: whoever gets the slot is counted after it.
            drop(in_progress);
            drop(slot);
            if let Err(error) = guard.release().await {
                tracing::info!(%error, "after its message was processed");
            }
            ok
        }
        Err(error) => {
            let line = outcome(None, Err(error.to_string())).line(message);
            shared.output.write(line).await;
            false
        }
    };
    Done {
        id: message.id.clone(),
        bytes: message.line.len(),
        waited,
        ok,
    }
}
