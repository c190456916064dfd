//! The list of conversations.

use std::sync::Arc;

use futures_util::StreamExt;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::answer::{Answer, Outcome};
use crate::error::Failure;
use crate::open::Opened;
use crate::operation::Operation;
use crate::process::{Ours, Process};

/// The ids of all conversations that have a lock, from
/// `LockStore.conversations`: for `async for`, or for `for` in threads.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct Conversations {
    list: Ours<Arc<Mutex<List>>>,
}

struct List {
    ids: Option<lock_store::Conversations>,
    store: Arc<Opened>,
}

impl Conversations {
    pub(crate) fn new(process: &'static Process, store: Arc<Opened>) -> Self {
        let list = List { ids: None, store };
        Self {
            list: Ours::new(process, Arc::new(Mutex::new(list))),
        }
    }

    fn next(&self) -> Operation {
        let Some(list) = self.list.get().cloned() else {
            return Operation::refused("conversations", Failure::Forked("list"));
        };
        Operation::new("conversations", self.list.process(), Box::pin(next(list)))
    }
}

async fn next(list: Arc<Mutex<List>>) -> Outcome {
    let mut list = list.lock().await;
    let List { ids, store } = &mut *list;
    let ids = match ids {
        Some(ids) => ids,
        None => ids.insert(store.open().await?.conversations()),
    };
    Ok(Answer::Conversation(ids.next().await.transpose()?))
}

#[pymethods]
impl Conversations {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> Operation {
        self.next()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.next().block(py, None) {
            Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
            next => next,
        }
    }
}
