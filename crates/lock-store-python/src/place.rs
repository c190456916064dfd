//! A place in line.

use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::answer::{Answer, Outcome};
use crate::error::Failure;
use crate::guard::Held;
use crate::lent::Lent;
use crate::locked;
use crate::open::Opened;
use crate::operation::Operation;
use crate::process::Ours;
use crate::taking::Taking;

/// A place, and what keeps its store open. Dropped in this order.
pub(crate) struct InLine {
    pub(crate) conversation_id: String,
    pub(crate) place: lock_store::Place,
    pub(crate) store: Arc<Opened>,
}

/// A place in a conversation's line, from `LockStore.take_ticket`.
///
/// The order is settled: whoever takes a ticket later is served later, however
/// late `wait` is called. When the turn comes the store claims it, and the
/// lease runs from then on, so `wait` should not be put off for longer than a
/// lifetime unless `keep_alive` is on. The wait timeout runs from the ticket
/// on, whether `wait` was called or not.
///
/// `leave()` gives the ticket back; so does collecting the place.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct Place {
    conversation_id: String,
    ticket_number: u64,
    fencing_token: u64,
    number: u64,
    line: Ours<Arc<Lent<InLine>>>,
}

impl Place {
    pub(crate) fn create(py: Python<'_>, line: InLine) -> PyResult<Py<PyAny>> {
        let process = crate::process::current();
        let number = process.next_number();
        let (ticket_number, fencing_token) =
            (line.place.ticket_number(), line.place.fencing_token());
        let conversation_id = line.conversation_id.clone();
        let line = Arc::new(Lent::new(line));
        let weak = Arc::downgrade(&line);
        locked(&process.held).insert(number, weak);
        let place = Self {
            conversation_id,
            ticket_number,
            fencing_token: fencing_token.get(),
            number,
            line: Ours::new(process, line),
        };
        place.into_py_any(py)
    }

    /// Takes it away, once.
    fn taking(&self) -> Result<Option<Taking<InLine>>, Failure> {
        let line = self.line()?;
        Ok(Taking::begin(self.line.process(), self.number, line))
    }

    fn line(&self) -> Result<&Arc<Lent<InLine>>, Failure> {
        self.line.get().ok_or(Failure::Forked("place"))
    }
}

#[pymethods]
impl Place {
    /// The conversation.
    #[getter]
    fn conversation_id(&self) -> &str {
        &self.conversation_id
    }

    /// The number on the ticket.
    #[getter]
    fn ticket_number(&self) -> u64 {
        self.ticket_number
    }

    /// The fencing token that its guard will have.
    #[getter]
    fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// Waits for the turn, and returns the guard. Once: the place is used up.
    ///
    /// Raises `LockTimeout`, `LockGone`, `LockLost` (its turn came and its
    /// lease ran out before this was called), or what the storage says.
    fn wait(&self) -> PyResult<Operation> {
        let Some(taking) = self.taking()? else {
            return Err(Failure::UsedUp("this place was waited for, or left, already").into());
        };
        let work = Box::pin(wait(taking));
        Ok(Operation::new("wait", self.line.process(), work).that_waits())
    }

    /// How many tickets are ahead, as the storage knows it now; 0 when the
    /// turn has come.
    fn position(&self) -> PyResult<Operation> {
        let line = self.line()?.clone();
        let work = async move {
            let position = line.borrow(async |line| line.place.position().await).await;
            let position = position.ok_or(Failure::UsedUp("this place was waited for, or left"))?;
            Ok(Answer::Number(position?))
        };
        Ok(Operation::new(
            "position",
            self.line.process(),
            Box::pin(work),
        ))
    }

    /// Gives the ticket back, in the background. Harmless when it was waited
    /// for.
    fn leave(&self) -> PyResult<()> {
        drop(self.taking()?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!(
            "<lock_store.Place of {:?}, ticket {}>",
            self.conversation_id, self.ticket_number
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.taking());
    }
}

async fn wait(taking: Taking<InLine>) -> Outcome {
    let Some(InLine { place, store, .. }) = taking.take().await else {
        return Err(Failure::UsedUp("this place was left already"));
    };
    let guard = place.wait().await?;
    Ok(Answer::Guard(Held { guard, store }))
}
