//! Rasa's methods of a `TicketLock`, in Rust's terms, and its JSON form.
//!
//! Rasa asks the machine's clock inside; here `now` is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ticket, TicketLock, TicketState};
use crate::config::DEFAULT_LOCK_LIFETIME;
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken};
use crate::time::Timestamp;

impl TicketLock {
    /// Issues a ticket in Rasa's manner: it has no owner, its lifetime runs
    /// from now, waiting included, and nobody needs to claim it. Returns its
    /// number.
    pub fn issue_ticket(&mut self, lifetime: Duration, now: Timestamp) -> u64 {
        self.remove_expired_tickets(now);
        let number = self.tickets.back().map_or(0, |last| last.number + 1);
        self.last_token = self.last_token.next(now.as_micros());
        self.tickets.push_back(Ticket {
            number,
            expires: now + lifetime,
            fencing_token: self.last_token,
            owner: None,
            lifetime,
            state: if self.tickets.is_empty() {
                TicketState::Claimed
            } else {
                TicketState::Waiting
            },
        });
        number
    }

    /// Removes every dead ticket, wherever it stands, as Rasa does. Nobody is
    /// taken for dead by it, and nobody is promoted.
    pub fn remove_expired_tickets(&mut self, now: Timestamp) {
        self.tickets.retain(|ticket| !ticket.has_expired(now));
    }

    /// The number of the ticket that was issued last and is alive; `None`
    /// where Rasa says -1.
    pub fn last_issued(&self, now: Timestamp) -> Option<u64> {
        self.alive(now).next_back().map(|ticket| ticket.number)
    }

    /// The number of the ticket that is served; `None` where Rasa says 0.
    pub fn now_serving(&self, now: Timestamp) -> Option<u64> {
        self.alive(now).next().map(|ticket| ticket.number)
    }

    /// Whether this ticket is not the one that is served.
    pub fn is_locked(&self, ticket_number: u64, now: Timestamp) -> bool {
        // Rasa's "0 when empty": in an empty queue ticket 0 is not locked.
        self.now_serving(now).unwrap_or(0) != ticket_number
    }

    /// Whether there is any ticket, the served one included.
    pub fn is_someone_waiting(&self) -> bool {
        !self.is_empty()
    }

    /// Removes the ticket with this number, if it is there.
    pub fn remove_ticket_for(&mut self, ticket_number: u64, now: Timestamp) {
        self.remove_expired_tickets(now);
        self.tickets.retain(|ticket| ticket.number != ticket_number);
    }

    /// Whether the ticket with this number is dead or not there.
    pub fn has_lock_expired(&self, ticket_number: u64, now: Timestamp) -> bool {
        !self.alive(now).any(|ticket| ticket.number == ticket_number)
    }

    fn alive(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Ticket> {
        self.tickets.iter().filter(move |t| !t.has_expired(now))
    }

    /// The lock as Rasa's `TicketLock.dumps` writes it: a JSON object whose
    /// tickets are JSON texts themselves. What is ours in a ticket
    /// (`fencing_token`, `owner`, `lifetime`, `state`) Rasa ignores.
    ///
    /// ```
    /// use lock_store::{ConversationId, TicketLock};
    ///
    /// let rasa = r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": 1763920000.5}"]}"#;
    /// let lock = TicketLock::from_json(rasa)?;
    /// assert_eq!(lock.conversation_id().as_str(), "a");
    /// assert_eq!(TicketLock::from_json(&lock.to_json())?, lock);
    /// # Ok::<(), lock_store::LockError>(())
    /// ```
    pub fn to_json(&self) -> String {
        let form = LockForm {
            conversation_id: self.conversation_id.as_str().into(),
            tickets: self.tickets.iter().map(Ticket::to_json).collect(),
        };
        json_text(&form)
    }

    /// Reads what [`to_json`](Self::to_json) or Rasa 3.6 wrote.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::Corrupt`](crate::LockErrorKind) with what was found.
    pub fn from_json(text: &str) -> Result<Self, LockError> {
        let form: LockForm = serde_json::from_str(text)
            .map_err(|error| LockError::corrupt(format!("not a lock in JSON: {error}")))?;
        let id = ConversationId::new(&form.conversation_id)
            .map_err(|error| LockError::corrupt(error.to_string()))?;
        let mut tickets = VecDeque::with_capacity(form.tickets.len());
        let mut last_token = FencingToken::default();
        for (index, text) in form.tickets.iter().enumerate() {
            let damaged = |found: String| {
                LockError::corrupt(format!("ticket at index {index}: {found}"))
                    .for_conversation(&id)
            };
            let ticket = Ticket::read(text, index == 0, last_token).map_err(damaged)?;
            if ticket.fencing_token <= last_token && index > 0 {
                return Err(damaged("its fencing token does not rise".into()));
            }
            last_token = ticket.fencing_token;
            tickets.push_back(ticket);
        }
        Ok(Self::resumed(id, tickets, last_token))
    }
}

impl Ticket {
    /// The ticket as Rasa's `Ticket.dumps` writes it, with our fields behind.
    pub fn to_json(&self) -> String {
        json_text(&TicketForm {
            number: self.number,
            expires: self.expires.as_secs_f64(),
            fencing_token: Some(self.fencing_token.get()),
            owner: self.owner.map(|owner| owner.to_string()),
            lifetime: Some(self.lifetime.as_secs_f64()),
            state: Some(self.state.as_str().into()),
        })
    }

    /// Reads a ticket; what Rasa does not write is filled in.
    fn read(text: &str, is_head: bool, last_token: FencingToken) -> Result<Self, String> {
        let form: TicketForm =
            serde_json::from_str(text).map_err(|error| format!("not a ticket in JSON: {error}"))?;
        let expires = Timestamp::from_secs_f64(form.expires)
            .ok_or_else(|| format!("expires is {}, not a time", form.expires))?;
        let lifetime = match form.lifetime {
            None => DEFAULT_LOCK_LIFETIME,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("lifetime is {seconds}, not a duration"))?,
        };
        let owner = match &form.owner {
            None => None,
            Some(text) => Some(text.parse().map_err(|error| format!("owner {error}"))?),
        };
        let state = match form.state.as_deref() {
            Some("waiting") => TicketState::Waiting,
            Some("promoted") => TicketState::Promoted,
            Some("claimed") => TicketState::Claimed,
            Some(other) => return Err(format!("state is {other:?}")),
            None if is_head => TicketState::Claimed,
            None => TicketState::Waiting,
        };
        Ok(Self {
            number: form.number,
            expires,
            fencing_token: form
                .fencing_token
                .map_or_else(|| last_token.next(form.number), FencingToken::new),
            owner,
            lifetime,
            state,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct LockForm {
    conversation_id: String,
    tickets: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct TicketForm {
    number: u64,
    expires: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fencing_token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

fn json_text(form: &impl Serialize) -> String {
    // Cannot fail: the forms have text keys only and no fallible `Serialize`.
    serde_json::to_string(form).unwrap_or_default()
}
