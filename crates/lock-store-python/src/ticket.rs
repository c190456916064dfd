//! A conversation's queue of tickets, as plain data.

use std::sync::Mutex;

use lock_store::ConversationId;
use pyo3::prelude::*;

use crate::convert::{seconds, timestamp};
use crate::error::Failure;
use crate::locked;

/// One ticket, as plain data. Times are seconds, since the epoch where they
/// are a moment.
#[pyclass(frozen, eq, module = "lock_store")]
#[derive(Clone, PartialEq)]
pub(crate) struct Ticket(lock_store::Ticket);

#[pymethods]
impl Ticket {
    /// The number on it: 0 in an empty queue, else the last one plus one.
    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    /// When it dies, unless something happens before.
    #[getter]
    fn expires(&self) -> f64 {
        self.0.expires.as_secs_f64()
    }

    /// Rises from ticket to ticket of a conversation.
    #[getter]
    fn fencing_token(&self) -> u64 {
        self.0.fencing_token.get()
    }

    /// Who took it, as `<client id>.<sequence>`; `None` for a ticket in Rasa's
    /// manner, known by its number alone.
    #[getter]
    fn owner(&self) -> Option<String> {
        self.0.owner.map(|owner| owner.to_string())
    }

    /// How long its lease is, from each claim on.
    #[getter]
    fn lifetime(&self) -> f64 {
        self.0.lifetime.as_secs_f64()
    }

    /// How far it has come: `waiting`, `promoted` or `claimed`.
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state.as_str()
    }

    /// Whether it is dead at `now`.
    #[pyo3(signature = (now=None))]
    fn has_expired(&self, now: Option<f64>) -> PyResult<bool> {
        Ok(self.0.has_expired(timestamp(now)?))
    }

    /// As Rasa's `Ticket.dumps` writes it, with our fields behind.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    fn __repr__(&self) -> String {
        let ticket = &self.0;
        format!(
            "<lock_store.Ticket {}, {}, expires {}>",
            ticket.number,
            ticket.state.as_str(),
            ticket.expires.as_secs_f64()
        )
    }
}

/// A conversation's queue of tickets, as plain data: a copy of what is stored,
/// with the methods of Rasa's `TicketLock`. `now` is the machine's time if it
/// is not given.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct TicketLock(Mutex<lock_store::TicketLock>);

impl From<lock_store::TicketLock> for TicketLock {
    fn from(lock: lock_store::TicketLock) -> Self {
        Self(Mutex::new(lock))
    }
}

impl TicketLock {
    pub(crate) fn copy(&self) -> lock_store::TicketLock {
        locked(&self.0).clone()
    }
}

#[pymethods]
impl TicketLock {
    #[new]
    fn new(conversation_id: &Bound<'_, PyAny>) -> PyResult<Self> {
        let id = crate::convert::id(conversation_id)?;
        let id = ConversationId::new(id).map_err(Failure::from)?;
        Ok(lock_store::TicketLock::new(id).into())
    }

    /// The conversation.
    #[getter]
    fn conversation_id(&self) -> String {
        locked(&self.0).conversation_id().as_str().to_owned()
    }

    /// The tickets, the served one first.
    #[getter]
    fn tickets(&self) -> Vec<Ticket> {
        locked(&self.0).tickets().cloned().map(Ticket).collect()
    }

    /// The highest fencing token that was given.
    #[getter]
    fn last_token(&self) -> u64 {
        locked(&self.0).last_token().get()
    }

    /// Issues a ticket in Rasa's manner: its lifetime runs from now, waiting
    /// included, and nobody needs to claim it. Returns its number.
    #[pyo3(signature = (lifetime, now=None))]
    fn issue_ticket(&self, lifetime: f64, now: Option<f64>) -> PyResult<u64> {
        let (lifetime, now) = (seconds("lifetime", lifetime)?, timestamp(now)?);
        Ok(locked(&self.0).issue_ticket(lifetime, now))
    }

    /// Removes every dead ticket.
    #[pyo3(signature = (now=None))]
    fn remove_expired_tickets(&self, now: Option<f64>) -> PyResult<()> {
        let now = timestamp(now)?;
        locked(&self.0).remove_expired_tickets(now);
        Ok(())
    }

    /// The number of the ticket that was issued last and is alive; `None`
    /// where Rasa says -1.
    #[pyo3(signature = (now=None))]
    fn last_issued(&self, now: Option<f64>) -> PyResult<Option<u64>> {
        Ok(locked(&self.0).last_issued(timestamp(now)?))
    }

    /// The number of the ticket that is served; `None` where Rasa says 0.
    #[pyo3(signature = (now=None))]
    fn now_serving(&self, now: Option<f64>) -> PyResult<Option<u64>> {
        Ok(locked(&self.0).now_serving(timestamp(now)?))
    }

    /// Whether this ticket is not the one that is served.
    #[pyo3(signature = (ticket_number, now=None))]
    fn is_locked(&self, ticket_number: u64, now: Option<f64>) -> PyResult<bool> {
        Ok(locked(&self.0).is_locked(ticket_number, timestamp(now)?))
    }

    /// Whether there is any ticket, the served one included.
    fn is_someone_waiting(&self) -> bool {
        locked(&self.0).is_someone_waiting()
    }

    /// Removes the ticket with this number, if it is there.
    #[pyo3(signature = (ticket_number, now=None))]
    fn remove_ticket_for(&self, ticket_number: u64, now: Option<f64>) -> PyResult<()> {
        let now = timestamp(now)?;
        locked(&self.0).remove_ticket_for(ticket_number, now);
        Ok(())
    }

    /// Whether the ticket with this number is dead or not there.
    #[pyo3(signature = (ticket_number, now=None))]
    fn has_lock_expired(&self, ticket_number: u64, now: Option<f64>) -> PyResult<bool> {
        Ok(locked(&self.0).has_lock_expired(ticket_number, timestamp(now)?))
    }

    /// The lock as Rasa's `TicketLock.dumps` writes it: a JSON object whose
    /// tickets are JSON texts themselves. What is ours in a ticket Rasa
    /// ignores.
    fn to_json(&self) -> String {
        locked(&self.0).to_json()
    }

    /// Reads what `to_json` or Rasa 3.6 wrote; `LockCorrupt` says what else
    /// was found.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        let lock = lock_store::TicketLock::from_json(text).map_err(Failure::from)?;
        Ok(lock.into())
    }

    fn __len__(&self) -> usize {
        locked(&self.0).tickets().len()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast::<Self>() else {
            return false;
        };
        let other = other.get().copy();
        *locked(&self.0) == other
    }

    fn __repr__(&self) -> String {
        let lock = locked(&self.0);
        format!(
            "<lock_store.TicketLock of {:?}, {} tickets>",
            lock.conversation_id(),
            lock.tickets().len()
        )
    }
}
