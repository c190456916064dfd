//! The worker of a conversation: takes its messages one after the other,
//! waits for the turn of each, and has it processed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_store::{ConversationId, LockError, LockErrorKind, LockGuard};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::handler::Handler;
use super::message::Message;
use super::outcome::Outcome;
use super::output::Output;
use super::progress::InProgress;
use super::stop::{NotBegun, Stop};
use super::waiting::Waiting;
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
    pub(crate) done: mpsc::UnboundedSender<Done>,
}

/// A message that is done.
pub(crate) struct Done {
    pub(crate) id: ConversationId,
    pub(crate) bytes: usize,
    pub(crate) waited: Duration,
    pub(crate) ok: bool,
}

/// The turn of a message, and its slot; or why it did not come.
type Turn<'s> = Result<(LockGuard, SemaphorePermit<'s>), LockError>;

/// Works until there is no more, or until the stop; then returns what was not
/// begun.
pub(crate) async fn work(mut waiting: Waiting, shared: Arc<Shared>) -> NotBegun {
    let mut stopped = shared.stop.listen();
    loop {
        let turn = tokio::select! {
            biased;
            () = stopped.wait() => break,
            turn = next_turn(&mut waiting, &shared) => turn,
        };
        let Some((turn, (message, since))) = turn.zip(waiting.begin()) else {
            break;
        };
        // In a box: it is large, and few of many workers process at a time.
        let processed = Box::pin(process(&shared, &message, since, turn));
        let done = waiting.meanwhile(processed).await;
        // The dispatcher is there for as long as its workers.
        let _ = shared.done.send(done);
    }
    waiting.leave()
}

/// Waits for a message, for the turn of the conversation, and then for a slot:
/// what waits for its turn takes no slot.
async fn next_turn<'s>(waiting: &mut Waiting, shared: &'s Shared) -> Option<Turn<'s>> {
    if !waiting.has_message().await {
        return None;
    }
    loop {
        let turn = match waiting.ticket().await {
            Ok(place) => waiting.meanwhile(place.wait()).await,
            Err(error) => return Some(Err(error)),
        };
        let error = match turn {
            Ok(guard) => {
                // What is seldom needed is in a box: every waiting conversation
                // has room for what is not.
                let slot = match shared.slots.try_acquire() {
                    Ok(slot) => Some(slot),
                    Err(_) => waiting.meanwhile(Box::pin(slot(shared, &guard))).await,
                };
                if let Some(slot) = slot
                    && !guard.is_lost()
                {
                    return Some(Ok((guard, slot)));
                }
                waiting.meanwhile(Box::pin(guard.lost())).await
            }
            Err(error) if needs_another_ticket(&error) => error,
            Err(error) => return Some(Err(error)),
        };
        tracing::info!(%error, "taking another ticket");
        if let Err(error) = waiting.lost(error) {
            return Some(Err(error));
        }
    }
}

/// Whether a ticket went before its message was begun.
fn needs_another_ticket(error: &LockError) -> bool {
    matches!(
        error.kind(),
        LockErrorKind::Gone | LockErrorKind::Lost | LockErrorKind::NotReplicated
    )
}

/// Waits for a slot, and has a whole lease from there on.
async fn slot<'s>(shared: &'s Shared, guard: &LockGuard) -> Option<SemaphorePermit<'s>> {
    // Never closed, so there will be one.
    let slot = shared.slots.acquire().await.ok()?;
    let TicketOptions {
        lifetime,
        keep_alive,
        ..
    } = shared.tickets;
    if !keep_alive && let Err(error) = guard.extend(lifetime).await {
        // Its processing has what is left of its lease.
        tracing::info!(%error, "a whole lease from here on");
    }
    Some(slot)
}

/// Processes a message whose turn has come, and writes its line while the
/// lock is held, so that the lines of a conversation are in order.
async fn process(shared: &Shared, message: &Message, since: Instant, turn: Turn<'_>) -> Done {
    let begun = Instant::now();
    let waited = begun - since;
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
            release(shared, guard).await;
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

/// Waits until the lock is given back, so that the next message meets no
/// ticket of this one; after the stop there is none, and the store sees to it.
async fn release(shared: &Shared, guard: LockGuard) {
    let mut stopped = shared.stop.listen();
    let released = tokio::select! {
        biased;
        released = guard.release() => released,
        () = stopped.wait() => Ok(()),
    };
    if let Err(error) = released {
        tracing::info!(%error, "after its message was processed");
    }
}

#[cfg(test)]
mod tests {
    use lock_store::LockStore;

    use super::*;

    /// There are as many as messages are read ahead.
    #[tokio::test]
    async fn a_waiting_conversation_is_small() {
        let stop = Stop::new();
        let tickets = TicketOptions {
            lifetime: Duration::from_secs(60),
            wait_timeout: Duration::MAX,
            keep_alive: true,
        };
        let (done, _) = mpsc::unbounded_channel();
        let (_, messages) = mpsc::unbounded_channel();
        let id = ConversationId::new("a").unwrap();
        let waiting = Waiting::new(id, LockStore::in_memory(), tickets, messages);
        let (output, _) = Output::start(std::io::sink(), stop.clone()).unwrap();
        let shared = Shared {
            tickets,
            handler: Handler::Echo,
            slots: Semaphore::new(1),
            output,
            in_progress: InProgress::default(),
            stop,
            done,
        };
        let size = size_of_val(&work(waiting, Arc::new(shared)));
        assert!(size <= 2048, "{size} bytes");
    }
}
