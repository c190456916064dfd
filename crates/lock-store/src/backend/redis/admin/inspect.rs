//! What people on call look at: the locks as they stand, and who is behind
//! them.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::Stream;
use redis::Value;

use super::listing;
use crate::backend::redis::RedisLockStore;
use crate::backend::redis::connect::within;
use crate::backend::redis::errors::{ConnectError, plain};
use crate::backend::redis::sender::strange_reply;
use crate::backend::{Finish, TicketName};
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId};
use crate::ticket::{Ticket, TicketLock, TicketState};
use crate::time::Timestamp;

/// What [`RedisLockStore::survey`] yields.
pub type Survey = Pin<Box<dyn Stream<Item = Result<LockSummary, LockError>> + Send>>;

/// One lock, seen from afar.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockSummary {
    /// The conversation that has it.
    pub conversation_id: ConversationId,
    /// The head of the queue.
    pub serving: Ticket,
    /// The ticket that comes next.
    pub next: Option<Ticket>,
    /// How many tickets are behind the head.
    pub waiting: u64,
    /// The clock of the server when it was seen.
    pub now: Timestamp,
}

impl LockSummary {
    /// How long the head has left to live: its lease, or its claim window.
    /// Zero if it is dead and nobody has dropped it yet.
    pub fn lease_left(&self) -> Duration {
        self.serving.expires - self.now
    }

    /// Whether the head is dead, and nobody has dropped it yet.
    pub fn is_dead(&self) -> bool {
        self.serving.has_expired(self.now)
    }

    /// How long ago the ticket that is served was issued.
    pub fn age(&self) -> Duration {
        age(&self.serving, self.now)
    }

    /// How long the ticket that comes next has been waiting; zero if nobody
    /// waits.
    pub fn oldest_wait(&self) -> Duration {
        let next = self.next.as_ref();
        next.map_or(Duration::ZERO, |next| age(next, self.now))
    }

    /// How long the ticket that is served had to wait for its turn, as far as
    /// that can be told: a lease that was extended looks like one that began
    /// then. `None` if it was called and has not answered yet.
    pub fn waited(&self) -> Option<Duration> {
        if self.serving.state != TicketState::Claimed {
            return None;
        }
        let until_end = self.serving.expires - issued_at(&self.serving);
        Some(until_end.saturating_sub(self.serving.lifetime))
    }
}

/// One lock, seen closely.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The whole queue.
    pub lock: TicketLock,
    /// The clock of the server when it was seen.
    pub now: Timestamp,
    /// How long the key has to live, if it has an end, as it should.
    pub time_to_live: Option<Duration>,
    /// For each client of the queue whether its process listens to the calls
    /// of this store. One that does not is dead, or out of reach, or may not
    /// listen. Empty if the server does not tell.
    pub listening: HashMap<ClientId, bool>,
}

impl Inspection {
    /// How long ago a ticket of the queue was issued.
    pub fn age(&self, ticket: &Ticket) -> Duration {
        age(ticket, self.now)
    }

    /// Whether the process behind a ticket is there, if that is known.
    pub fn is_alive(&self, ticket: &Ticket) -> Option<bool> {
        self.listening.get(&ticket.owner?.client).copied()
    }
}

/// A fencing token is the time of its issue, or a little later.
fn issued_at(ticket: &Ticket) -> Timestamp {
    Timestamp::from_micros(ticket.fencing_token.get())
}

fn age(ticket: &Ticket, now: Timestamp) -> Duration {
    now - issued_at(ticket)
}

impl RedisLockStore {
    /// Every lock that there is, in no order: the head of its queue, and how
    /// many are behind it. Goes through the keys in small steps that hold
    /// nobody up, so it is no picture of one moment.
    ///
    /// A damaged lock is an error, and the survey goes on behind it; when the
    /// server cannot be reached that is the last one.
    pub fn survey(&self) -> Survey {
        listing::survey(self.core.steps.clone())
    }

    /// The whole queue of a conversation, and which of its owners are there.
    /// Nothing is changed by looking: dead tickets stay.
    ///
    /// # Errors
    ///
    /// Unavailable, or corrupt.
    pub async fn inspect(&self, id: &ConversationId) -> Result<Option<Inspection>, LockError> {
        let Some(lock) = self.core.get(id).await? else {
            return Ok(None);
        };
        let steps = &self.core.steps;
        let links = steps.route.links_for(id);
        let links = links.ok_or_else(|| ConnectError::nobody_to_ask().into_error())?;
        let mut live = listing::connected(steps, &links[0]).await?;
        let mut clients: Vec<_> = lock.tickets().filter_map(|ticket| ticket.owner).collect();
        clients.sort_by_key(|owner| owner.client.as_u64());
        clients.dedup_by_key(|owner| owner.client);
        let channels = clients
            .iter()
            .map(|owner| steps.keys.channel_for(id, owner.client));
        let mut pipeline = redis::pipe();
        pipeline
            .ignore_errors()
            .cmd("TIME")
            .cmd("PTTL")
            .arg(steps.keys.queue(id))
            .cmd("PUBSUB")
            .arg(steps.keys.who_listens())
            .arg(channels.collect::<Vec<_>>());
        let answers = pipeline.query_async(&mut live.connection);
        let answers: Vec<Value> = match within(steps.timeout(), answers).await {
            Ok(answers) => answers,
            Err(error) => {
                return Err(LockError::unavailable(plain(&error)).for_conversation(id));
            }
        };
        let [time, left, listeners] = &answers[..] else {
            return Err(strange_reply(id));
        };
        let now = listing::server_time(time).ok_or_else(|| strange_reply(id))?;
        let time_to_live = match left {
            Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
            _ => None,
        };
        let counts = listener_counts(listeners);
        let listening = clients.iter().map(|owner| owner.client).zip(counts);
        Ok(Some(Inspection {
            now,
            time_to_live,
            listening: listening.collect(),
            lock,
        }))
    }

    /// Takes a ticket away from its owner, who learns that it is lost or gone,
    /// and calls the next, who has `claim_window` to answer: that of the
    /// configuration. Says whether it was there: the very ticket, not another
    /// one with the same number.
    ///
    /// # Errors
    ///
    /// Unavailable, or corrupt.
    pub async fn take_away(
        &self,
        id: &ConversationId,
        ticket: &Ticket,
        claim_window: Duration,
    ) -> Result<bool, LockError> {
        let name = match ticket.owner {
            Some(owner) => TicketName::Owner(owner),
            None => TicketName::Number(ticket.number),
        };
        let finish = Finish {
            number: Some(ticket.number),
            ..Finish::new(name, claim_window)
        };
        let finished = self.core.clone().finish(id.clone(), finish).await?;
        if let Some(owner) = ticket.owner.filter(|_| finished.found) {
            self.core.tell(id, "gone", owner).await;
        }
        Ok(finished.found)
    }

    /// How long one question and its answer take now.
    ///
    /// # Errors
    ///
    /// Unavailable.
    pub async fn ping(&self) -> Result<Duration, LockError> {
        let steps = &self.core.steps;
        let links = steps.route.all_links();
        let Some(links) = links.first() else {
            return Err(ConnectError::nobody_to_ask().into_error());
        };
        let mut live = listing::connected(steps, &links[0]).await?;
        let ping = redis::cmd("PING");
        let begun = Instant::now();
        let answer = within(steps.timeout(), ping.query_async(&mut live.connection)).await;
        let answer: redis::RedisResult<Value> = answer;
        match answer {
            Ok(_) => Ok(begun.elapsed()),
            Err(error) => Err(LockError::unavailable(plain(&error))),
        }
    }
}

/// What `PUBSUB NUMSUB` says: channel, count, channel, count…
fn listener_counts(answer: &Value) -> Vec<bool> {
    let Value::Array(fields) = answer else {
        return Vec::new();
    };
    let counts = fields.iter().skip(1).step_by(2);
    counts
        .map(|count| !matches!(count, Value::Int(0)))
        .collect()
}
