//! The messages of a conversation that were not begun, and their tickets.
//!
//! One ticket is asked for after the other, whatever else the worker does: so
//! the tickets of a conversation are in order, also when a storage is away for
//! a while and requests are repeated, and no conversation waits for the answers
//! to others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use lock_store::{ConversationId, LockError, LockErrorKind, LockStore, Place};
use tokio::sync::mpsc;

use super::message::Message;
use super::stop::NotBegun;
use crate::pauses::Pauses;
use crate::settings::TicketOptions;

/// The shortest time in which a ticket can be asked for.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A message, and since when it waits.
pub(super) type Waiter = (Box<Message>, Instant);

/// A ticket, or why none could be taken.
pub(super) type Taken = Result<Place, LockError>;

type Asking = Pin<Box<dyn Future<Output = Taken> + Send>>;

/// The messages and their tickets. Both are in order, but not tied to each
/// other: if a ticket is lost, its message takes the next one, and a new one is
/// asked for at the end. So messages stay in order.
pub(super) struct Waiting {
    id: ConversationId,
    store: LockStore,
    options: TicketOptions,
    work: mpsc::UnboundedReceiver<Waiter>,
    /// Whether more messages may come.
    open: bool,
    messages: VecDeque<Waiter>,
    tickets: VecDeque<Taken>,
    /// How many of the messages, the last ones, have no ticket and none is
    /// being asked for.
    lacking: usize,
    asking: Option<Asking>,
}

impl Waiting {
    pub(super) fn new(
        id: ConversationId,
        store: LockStore,
        options: TicketOptions,
        work: mpsc::UnboundedReceiver<Waiter>,
    ) -> Self {
        Self {
            id,
            store,
            options,
            work,
            open: true,
            messages: VecDeque::new(),
            tickets: VecDeque::new(),
            lacking: 0,
            asking: None,
        }
    }

    /// Waits until there is a message; `false` if there will be none. May be
    /// dropped at any point.
    pub(super) async fn has_message(&mut self) -> bool {
        while self.messages.is_empty() && self.open {
            self.go_on().await;
        }
        !self.messages.is_empty()
    }

    /// The next ticket. There is one for each message. May be dropped at any
    /// point; then no ticket is lost.
    pub(super) async fn ticket(&mut self) -> Taken {
        loop {
            if let Some(ticket) = self.tickets.pop_front() {
                return ticket;
            }
            self.go_on().await;
        }
    }

    /// The ticket that was returned last is of no use: another one is needed,
    /// unless the first message has waited long enough.
    pub(super) fn lost(&mut self, error: LockError) -> Result<(), LockError> {
        let Some((_, since)) = self.messages.front() else {
            return Err(error);
        };
        if self.options.wait_left(*since).is_zero() {
            return Err(error);
        }
        self.lacking += 1;
        Ok(())
    }

    /// The first message is begun.
    pub(super) fn begin(&mut self) -> Option<Waiter> {
        self.messages.pop_front()
    }

    /// Takes messages and tickets while `work` is done.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.go_on_for_ever() => match never {},
        }
    }

    async fn go_on_for_ever(&mut self) -> Infallible {
        loop {
            self.go_on().await;
        }
    }

    /// Takes a message or a ticket. May be dropped at any point.
    async fn go_on(&mut self) {
        if self.asking.is_none() && self.lacking > 0 {
            self.ask();
        }
        tokio::select! {
            biased;
            ticket = answer(&mut self.asking) => {
                self.asking = None;
                self.tickets.push_back(ticket);
            }
            waiter = self.work.recv(), if self.open => match waiter {
                Some(waiter) => self.accept(waiter),
                None => self.open = false,
            }
        }
    }

    fn accept(&mut self, waiter: Waiter) {
        self.messages.push_back(waiter);
        self.lacking += 1;
    }

    fn ask(&mut self) {
        let first = self.messages.len().saturating_sub(self.lacking);
        let Some((_, since)) = self.messages.get(first) else {
            return;
        };
        self.lacking -= 1;
        let (store, id) = (self.store.clone(), self.id.clone());
        self.asking = Some(Box::pin(ask(store, id, self.options, *since)));
    }

    /// Gives the tickets back, and says what was not begun.
    pub(super) fn leave(mut self) -> NotBegun {
        self.work.close();
        while let Ok(waiter) = self.work.try_recv() {
            self.accept(waiter);
        }
        let mut left = NotBegun::default();
        for (message, _) in &self.messages {
            left.add(message.seq);
        }
        left
    }
}

async fn answer(asking: &mut Option<Asking>) -> Taken {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

/// Asks for a ticket until there is one, or until the message has waited long
/// enough. When dropped, no ticket is left behind.
async fn ask(
    store: LockStore,
    id: ConversationId,
    options: TicketOptions,
    since: Instant,
) -> Taken {
    let mut pauses = Pauses::new();
    let mut not_replicated = None;
    loop {
        let wait = options.wait_left(since);
        // None was wanted, or none is left: to ask once is right in both cases.
        let wait = if options.wait_timeout.is_zero() {
            wait
        } else {
            wait.max(SHORTEST_WAIT)
        };
        let taken = store
            .take_ticket(&id)
            .lifetime(options.lifetime)
            .wait_timeout(wait)
            .keep_alive(options.keep_alive)
            .await;
        match taken {
            Err(error) if may_pass(&error) && pauses.fits_into(options.wait_left(since)) => {
                tracing::info!(%error, "asking again for a ticket");
                pauses.pause().await;
                if error.kind() == LockErrorKind::NotReplicated {
                    not_replicated = Some(error);
                }
            }
            // The last time there may have been no time left for an answer.
            Err(error) if error.kind() == LockErrorKind::Unavailable => {
                return Err(not_replicated.unwrap_or(error));
            }
            taken => return taken,
        }
    }
}

/// Whether it is the storage that is not able to, and may be later.
fn may_pass(error: &LockError) -> bool {
    matches!(
        error.kind(),
        LockErrorKind::Unavailable | LockErrorKind::NotReplicated
    )
}
