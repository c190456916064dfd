//! What is shown, and what the user is about to do. Neither draws nor asks
//! Redis: keys come in ([`super::keys`]), actions go out.

use std::time::Duration;

use lock_store::{ConversationId, FencingToken, Ticket};

use super::lock::{Place, Queue, Seen};
use super::looker::News;
use super::model::Model;
use super::order::Order;
use super::text;

/// An older picture is marked as old.
const FRESH: Duration = Duration::from_secs(3);

/// How long a notice is shown.
const NOTICE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) model: Model,
    pub(crate) order: Order,
    /// The locks that are shown, as places in those of the model.
    rows: Vec<usize>,
    selected: Selection<ConversationId>,
    pub(crate) open: Option<Open>,
    pub(crate) mode: Mode,
    pub(crate) connected: bool,
    /// Counted from the start.
    pub(crate) now: Duration,
    notice: Option<(Duration, String)>,
    /// How far a page goes: as many rows as were drawn.
    pub(crate) page: usize,
}

/// What keys mean now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Mode {
    #[default]
    Look,
    /// A filter is being typed; this is the one before it.
    Filter(String),
    /// Whether to release is being asked.
    Ask(Release),
    Help,
}

/// The queue that is open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) id: ConversationId,
    pub(crate) seen: SeenQueue,
    selected: Selection<FencingToken>,
}

#[derive(Debug)]
pub(crate) enum SeenQueue {
    NotYet,
    Empty,
    Queue(Queue),
    /// With what was seen before.
    Trouble(String, Option<Queue>),
}

/// The ticket to release: this one, and no other that may take its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Release {
    pub(crate) id: ConversationId,
    pub(crate) ticket: Ticket,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Nothing,
    Quit,
    /// By Ctrl-C.
    Interrupt,
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Look closely at a queue, or at none any more.
    Open(Option<ConversationId>),
    Release(Release),
}

/// What is selected stays so while it moves; when it is gone, what has come to
/// its place.
#[derive(Debug)]
struct Selection<K> {
    key: Option<K>,
    position: usize,
}

impl<K> Default for Selection<K> {
    fn default() -> Self {
        Self {
            key: None,
            position: 0,
        }
    }
}

impl<K: PartialEq> Selection<K> {
    fn follow(&mut self, keys: impl Iterator<Item = K> + Clone) {
        let found = keys.clone().position(|key| Some(&key) == self.key.as_ref());
        if let Some(position) = found {
            self.position = position;
            return;
        }
        self.go_to(self.position, keys);
    }

    fn go_to(&mut self, position: usize, mut keys: impl Iterator<Item = K> + Clone) {
        self.position = position.min(keys.clone().count().saturating_sub(1));
        self.key = keys.nth(self.position);
    }
}

impl App {
    pub(crate) fn take(&mut self, news: News) {
        match news {
            News::Look(look) => {
                self.model.see(look);
                self.arrange();
            }
            News::Away(why) => self.model.away(why),
            News::Queue(id, queue) => {
                if let Some(open) = self.open.as_mut().filter(|open| open.id == id) {
                    open.see(queue);
                }
            }
        }
    }

    /// After something has changed in what is shown, or in which order.
    pub(crate) fn arrange(&mut self) {
        self.rows = self.order.of(self.model.locks());
        let (rows, locks) = (&self.rows, self.model.locks());
        let keys = rows.iter().map(|row| locks[*row].id.clone());
        self.selected.follow(keys);
    }

    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &Seen> {
        self.rows.iter().map(|row| &self.model.locks()[*row])
    }

    /// The place of what is selected among the rows, or in the open queue.
    pub(crate) fn position(&self) -> usize {
        match &self.open {
            Some(open) => open.selected.position,
            None => self.selected.position,
        }
    }

    /// Moves the selection so many rows down.
    pub(crate) fn move_by(&mut self, rows: isize) {
        self.move_to(self.position().saturating_add_signed(rows));
    }

    pub(crate) fn move_to(&mut self, position: usize) {
        match &mut self.open {
            Some(open) => {
                let queue = open.seen.queue();
                let keys = queue.into_iter().flat_map(tokens);
                open.selected.go_to(position, keys);
            }
            None => {
                let (rows, locks) = (&self.rows, self.model.locks());
                let keys = rows.iter().map(|row| locks[*row].id.clone());
                self.selected.go_to(position, keys);
            }
        }
    }

    /// Opens the queue of the conversation that is selected.
    pub(crate) fn open(&mut self) -> Action {
        let Some(lock) = self.rows().nth(self.selected.position) else {
            return Action::Nothing;
        };
        let id = lock.id.clone();
        self.open = Some(Open {
            id: id.clone(),
            seen: SeenQueue::NotYet,
            selected: Selection::default(),
        });
        Action::Open(Some(id))
    }

    pub(crate) fn close(&mut self) -> Action {
        self.open = None;
        Action::Open(None)
    }

    /// The ticket that is selected: in the list, the head of a queue.
    pub(crate) fn ticket(&self) -> Option<Release> {
        let (id, ticket) = match &self.open {
            Some(open) => (&open.id, &open.place()?.ticket),
            None => {
                let lock = self.rows().nth(self.selected.position)?;
                (&lock.id, &lock.serving)
            }
        };
        Some(Release {
            id: id.clone(),
            ticket: ticket.clone(),
        })
    }

    /// Says what came of releasing a ticket.
    pub(crate) fn released(&mut self, release: &Release, outcome: Result<bool, String>) {
        let (number, id) = (release.ticket.number, text::visible(release.id.as_str()));
        self.notify(match outcome {
            Ok(true) => format!("released ticket {number} of {id}"),
            Ok(false) => format!("ticket {number} of {id} was already gone; nothing was released"),
            Err(why) => format!("ticket {number} of {id} may not be released: {why}"),
        });
    }

    pub(crate) fn notify(&mut self, text: String) {
        self.notice = Some((self.now, text));
    }

    /// What there is to say, for a while.
    pub(crate) fn notice(&self) -> Option<&str> {
        let (since, text) = self.notice.as_ref()?;
        (self.now.saturating_sub(*since) < NOTICE).then_some(text)
    }

    /// How old the picture is, if that is too old.
    pub(crate) fn old(&self) -> Option<Duration> {
        let age = self.now.saturating_sub(self.model.looked_at()?);
        let usual = self.model.figures().interval.unwrap_or_default();
        let is_old = self.is_away() || age > FRESH.max(usual * 2);
        is_old.then_some(age)
    }

    pub(crate) fn is_away(&self) -> bool {
        !self.connected || self.model.trouble().is_some()
    }
}

impl Open {
    fn see(&mut self, queue: Result<Option<Queue>, String>) {
        self.seen = match (queue, std::mem::replace(&mut self.seen, SeenQueue::NotYet)) {
            (Ok(Some(queue)), _) => SeenQueue::Queue(queue),
            (Ok(None), _) => SeenQueue::Empty,
            (Err(why), SeenQueue::Queue(last) | SeenQueue::Trouble(_, Some(last))) => {
                SeenQueue::Trouble(why, Some(last))
            }
            (Err(why), _) => SeenQueue::Trouble(why, None),
        };
        let queue = self.seen.queue();
        self.selected.follow(queue.into_iter().flat_map(tokens));
    }

    fn place(&self) -> Option<&Place> {
        self.seen.queue()?.places.get(self.selected.position)
    }
}

impl SeenQueue {
    /// The queue as it was last seen.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        match self {
            Self::Queue(queue) | Self::Trouble(_, Some(queue)) => Some(queue),
            Self::NotYet | Self::Empty | Self::Trouble(_, None) => None,
        }
    }
}

fn tokens(queue: &Queue) -> impl Iterator<Item = FencingToken> + Clone {
    queue.places.iter().map(|place| place.ticket.fencing_token)
}

#[cfg(test)]
mod tests;
