//! The store, as Python sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lock_store::{DEFAULT_CLOSE_LIMIT, LockStoreConfig, StoreType};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::answer::{Answer, Outcome, Then};
use crate::config;
use crate::conversations::Conversations;
use crate::convert::{id, patience};
use crate::error::Failure;
use crate::guard::Body;
use crate::issuing::Issuing;
use crate::lock::{Lock, Options, try_acquire};
use crate::locked;
use crate::open::Opened;
use crate::operation::{Operation, Work};
use crate::place::InLine;
use crate::process::{Ours, current};
use crate::ticket::TicketLock;

/// Locks for conversations: messages of one conversation are handled one at a
/// time, in the order in which they arrived; different conversations in
/// parallel.
///
///     store = LockStore.redis("redis://localhost:6379/1", lock_lifetime=30)
///
///     async with store.lock("conversation-42") as guard:
///         ...                                  # the same with `with`, in threads
///
/// One store serves all tasks, event loops and threads of a process, and after
/// a `fork` one on Redis serves the child as well. Whatever takes time returns
/// an `Operation`: `await` it, or ask for its `result()` in a thread.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct LockStore {
    config: Arc<LockStoreConfig>,
    opened: Mutex<Ours<Arc<Opened>>>,
    is_closed: AtomicBool,
}

impl LockStore {
    pub(crate) fn new(config: LockStoreConfig) -> PyResult<Self> {
        let (process, config) = (current(), Arc::new(config));
        let opened = Opened::new(process, &config)?;
        Ok(Self {
            config,
            opened: Mutex::new(Ours::new(process, opened)),
            is_closed: AtomicBool::new(false),
        })
    }

    /// The store of this process. In a child of a fork Redis is opened anew.
    pub(crate) fn opened(&self) -> Result<Arc<Opened>, Failure> {
        let mut opened = locked(&self.opened);
        if let Some(opened) = opened.get() {
            if opened.get().is_none() && self.is_closed.load(Ordering::Acquire) {
                return Err(Failure::ClosedUnopened);
            }
            return Ok(opened.clone());
        }
        if self.config.store_type == StoreType::InMemory {
            return Err(Failure::Forked("store in memory"));
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::ClosedUnopened);
        }
        let process = current();
        let anew = Opened::new(process, &self.config)?;
        *opened = Ours::new(process, anew.clone());
        Ok(anew)
    }

    fn close_within(&self, limit: Duration) -> Operation {
        // What was never opened in this process is not opened for this.
        let opened = self.opened().ok();
        self.is_closed.store(true, Ordering::Release);
        let work: Work = Box::pin(async move {
            if let Some(store) = opened.as_deref().and_then(Opened::get) {
                store.close_within(limit).await?;
            }
            Ok(Answer::Nothing)
        });
        Operation::new("close", current(), work)
    }

    /// Something that the store does.
    fn operation<F>(&self, name: &'static str, work: impl FnOnce(Arc<Opened>) -> F) -> Operation
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        match self.opened() {
            Ok(opened) => {
                let work: Work = Box::pin(work(opened));
                Operation::new(name, current(), work)
            }
            Err(failure) => Operation::refused(name, failure),
        }
    }
}

#[pymethods]
impl LockStore {
    /// A store in the memory of this process. The options are the times of the
    /// configuration: `lock_lifetime`, `wait_timeout`, `wait_time`,
    /// `claim_window`, `keep_alive`, `max_hold`.
    #[staticmethod]
    #[pyo3(signature = (**options))]
    fn in_memory(options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Self::new(config::from_options("in_memory", None, options)?)
    }

    /// A store on Redis. The options are the keys of the configuration, such
    /// as `key_prefix`, `password`, `lock_lifetime`, `fallback`; the variables
    /// `LOCK_STORE_…` of the environment give what they leave out.
    ///
    /// They are checked now; the connection is opened at first use, or by
    /// `connect`. A Redis that cannot be reached then is an error, unless
    /// `fallback="in_memory"`.
    #[staticmethod]
    #[pyo3(signature = (url=None, **options))]
    fn redis(
        url: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Self::new(config::from_options("redis", url, options)?)
    }

    /// The store that the environment describes, without a file: each key from
    /// the variable `LOCK_STORE_<KEY>`, such as `LOCK_STORE_URL`. If none says
    /// where Redis is, it is one in memory.
    #[staticmethod]
    fn from_env() -> PyResult<Self> {
        Self::new(LockStoreConfig::from_env().map_err(Failure::from)?)
    }

    /// The store that the block `lock_store` of a file describes, as Rasa's
    /// `endpoints.yml`. Without such a block it is one in memory. The
    /// environment counts over the file.
    #[staticmethod]
    fn from_endpoints(path: std::path::PathBuf) -> PyResult<Self> {
        Self::new(LockStoreConfig::from_endpoints(path).map_err(Failure::from)?)
    }

    /// As `from_endpoints`, for a text.
    #[staticmethod]
    fn from_yaml(text: &str) -> PyResult<Self> {
        Self::new(LockStoreConfig::from_yaml(text).map_err(Failure::from)?)
    }

    /// Opens the connection, which otherwise the first use does, and says what
    /// is wrong with it. With `fallback="in_memory"`, the default of files and of
    /// the environment, a Redis that cannot be reached is no error: see
    /// `is_degraded`.
    fn connect(&self) -> Operation {
        self.operation("connect", async |store| {
            store.open().await?;
            Ok(Answer::Nothing)
        })
    }

    /// Locks a conversation: waits until every ticket taken before is done.
    /// See `Lock` for the ways to use what it returns.
    ///
    /// `lifetime` is how long the lease is, in seconds, from the turn on;
    /// `wait_timeout` how long to wait for the turn (`math.inf`: without
    /// limit); `keep_alive` whether the store extends the lease until it is
    /// released. What is not given is as configured.
    #[pyo3(signature = (conversation_id, *, lifetime=None, wait_timeout=None, keep_alive=None))]
    fn lock(
        slf: PyRef<'_, Self>,
        conversation_id: &Bound<'_, PyAny>,
        lifetime: Option<f64>,
        wait_timeout: Option<f64>,
        keep_alive: Option<bool>,
    ) -> PyResult<Lock> {
        let options = Options::new(lifetime, wait_timeout, keep_alive)?;
        Ok(Lock::new(slf.into(), id(conversation_id)?, options))
    }

    /// Locks a conversation if nobody else is there: `None` when somebody is,
    /// and then no ticket is taken.
    #[pyo3(signature = (conversation_id, *, lifetime=None, keep_alive=None))]
    fn try_lock(
        &self,
        conversation_id: &Bound<'_, PyAny>,
        lifetime: Option<f64>,
        keep_alive: Option<bool>,
    ) -> PyResult<Operation> {
        let options = Options::new(lifetime, None, keep_alive)?;
        let id = id(conversation_id)?;
        Ok(self.operation("try_lock", |store| try_acquire(store, id, options)))
    }

    /// Takes a ticket, and returns a `Place` in line: in order from here on,
    /// to be waited for later.
    #[pyo3(signature = (conversation_id, *, lifetime=None, wait_timeout=None, keep_alive=None))]
    fn take_ticket(
        &self,
        conversation_id: &Bound<'_, PyAny>,
        lifetime: Option<f64>,
        wait_timeout: Option<f64>,
        keep_alive: Option<bool>,
    ) -> PyResult<Operation> {
        let options = Options::new(lifetime, wait_timeout, keep_alive)?;
        let conversation_id = id(conversation_id)?;
        Ok(self.operation("take_ticket", async move |store| {
            let opened = store.open().await?;
            let place = options.of(opened.take_ticket(&conversation_id)).await?;
            Ok(Answer::Place(InLine {
                conversation_id,
                place,
                store: store.clone(),
            }))
        }))
    }

    /// Locks a conversation, awaits `work(guard)`, releases, and returns what
    /// the work came to. The work is cancelled when the lock is lost, and
    /// `LockLost` raised.
    #[pyo3(signature = (conversation_id, work, *, lifetime=None, wait_timeout=None, keep_alive=None))]
    fn run<'py>(
        slf: &Bound<'py, Self>,
        conversation_id: &Bound<'py, PyAny>,
        work: &Bound<'py, PyAny>,
        lifetime: Option<f64>,
        wait_timeout: Option<f64>,
        keep_alive: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.borrow();
        let lock = Self::lock(this, conversation_id, lifetime, wait_timeout, keep_alive)?;
        py.import("lock_store._run")?
            .call_method1("run", (lock, work))
    }

    /// The ids of all conversations that have a lock, in no order: for
    /// `async for`, or for `for` in threads.
    fn conversations(&self) -> PyResult<Conversations> {
        Ok(Conversations::new(current(), self.opened()?))
    }

    /// An empty lock for the conversation; nothing is stored.
    #[allow(clippy::unused_self)] // as Rasa has it
    fn create_lock(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<TicketLock> {
        let id = lock_store::ConversationId::new(id(conversation_id)?).map_err(Failure::from)?;
        Ok(lock_store::TicketLock::new(id).into())
    }

    /// The lock as it is stored; `None` when nobody holds or waits.
    fn get_lock(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("get_lock", async |store| {
            Ok(Answer::MaybeLock(store.open().await?.get_lock(id).await?))
        }))
    }

    /// The stored lock, or an empty one.
    fn get_or_create_lock(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("get_or_create_lock", async |store| {
            let lock = store.open().await?.get_or_create_lock(id).await?;
            Ok(Answer::Lock(lock))
        }))
    }

    /// Replaces what is stored for the lock's conversation. A lock without
    /// tickets is not stored. Not atomic with an earlier `get_lock`: meant for
    /// repair, not for locking.
    fn save_lock(&self, lock: &Bound<'_, TicketLock>) -> Operation {
        let lock = lock.get().copy();
        self.operation("save_lock", async move |store| {
            store.open().await?.save_lock(&lock).await?;
            Ok(Answer::Nothing)
        })
    }

    /// Deletes the lock: waiters learn that they are gone, the holder that it
    /// lost. Says whether there was one.
    fn delete_lock(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("delete_lock", async |store| {
            Ok(Answer::Truth(store.open().await?.delete_lock(id).await?))
        }))
    }

    /// Issues a ticket in Rasa's manner, in one atomic step, and returns its
    /// number. It is served when `get_lock` says so, is not woken, and dies
    /// `lifetime` seconds from now; by default as configured.
    #[pyo3(signature = (conversation_id, lifetime=None))]
    fn issue_ticket(
        &self,
        conversation_id: &Bound<'_, PyAny>,
        lifetime: Option<f64>,
    ) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        let lifetime = match lifetime {
            Some(lifetime) => crate::convert::seconds("lifetime", lifetime)?,
            None => self.config.timing.lock_lifetime,
        };
        Ok(self.operation("issue_ticket", async move |store| {
            store.open().await?;
            let issued = Issuing::begin(store, id, lifetime).await?;
            Ok(Answer::Issued(issued))
        }))
    }

    /// Drops dead tickets at the head of the queue and wakes who is next.
    fn update_lock(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("update_lock", async |store| {
            store.open().await?.update_lock(id).await?;
            Ok(Answer::Nothing)
        }))
    }

    /// Whether there is any ticket, the served one included.
    fn is_someone_waiting(&self, conversation_id: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("is_someone_waiting", async |store| {
            let waiting = store.open().await?.is_someone_waiting(id).await?;
            Ok(Answer::Truth(waiting))
        }))
    }

    /// Removes a ticket by its number, in one atomic step, and promotes the
    /// next; harmless when it is not there.
    fn finish_serving(
        &self,
        conversation_id: &Bound<'_, PyAny>,
        ticket_number: u64,
    ) -> PyResult<Operation> {
        let id = id(conversation_id)?;
        Ok(self.operation("finish_serving", async move |store| {
            let opened = store.open().await?;
            opened.finish_serving(id, ticket_number).await?;
            Ok(Answer::Nothing)
        }))
    }

    /// What Rasa does when a message is done: the same as `finish_serving`.
    fn cleanup(
        &self,
        conversation_id: &Bound<'_, PyAny>,
        ticket_number: u64,
    ) -> PyResult<Operation> {
        self.finish_serving(conversation_id, ticket_number)
    }

    /// Takes no new locks, and waits until everything that was dropped is
    /// released, for `timeout` seconds at most. Guards that are still held stay
    /// good.
    ///
    /// When Redis has not answered by then, `LockStoreUnavailable` says how
    /// many tickets were not given back. The store goes on trying while the
    /// process lives; at the latest they expire.
    #[pyo3(signature = (*, timeout=5.0))]
    fn close(&self, timeout: f64) -> PyResult<Operation> {
        let limit = patience(timeout)?;
        Ok(self.close_within(limit))
    }

    fn __aenter__(slf: Bound<'_, Self>) -> Operation {
        let then = Then::Give(slf.into_any().unbind());
        let work: Work = Box::pin(async { Ok(Answer::Nothing) });
        Operation::begin("enter", current(), Ok(work), then)
    }

    fn __aexit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> Operation {
        let _ = (Body::of(kind), error, traceback);
        self.close_within(DEFAULT_CLOSE_LIMIT)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (error, traceback);
        let closing = self.close_within(DEFAULT_CLOSE_LIMIT);
        closing.block(kind.py(), None).map(drop)
    }

    /// Whether it serves from memory although it should not: only ever true
    /// for a store whose Redis could not be reached at the start.
    #[getter]
    fn is_degraded(&self) -> bool {
        let opened = locked(&self.opened).get().cloned();
        let store = opened.as_deref().and_then(Opened::get);
        store.is_some_and(lock_store::LockStore::is_degraded)
    }

    /// Who this store is to the others, in this process: 16 hexadecimal
    /// digits. `None` until it is opened.
    #[getter]
    fn client_id(&self) -> Option<String> {
        let opened = locked(&self.opened).get().cloned();
        let store = opened.as_deref().and_then(Opened::get);
        store.map(|store| store.client_id().to_string())
    }

    fn __repr__(&self) -> String {
        match self.config.store_type {
            StoreType::InMemory => "<lock_store.LockStore in memory>".into(),
            _ => "<lock_store.LockStore on Redis>".into(),
        }
    }
}

/// For `lock_store.rasa`: the store that Rasa's `endpoints.yml` describes, and
/// its `socket_timeout`, `None` in memory.
#[pyfunction]
pub(crate) fn _rasa_store(
    block: &Bound<'_, PyDict>,
    options: &Bound<'_, PyDict>,
) -> PyResult<(LockStore, Option<f64>)> {
    let config = config::from_rasa(block, options)?;
    let timeout = match config.store_type {
        StoreType::InMemory => None,
        _ => Some(config.redis.socket_timeout.as_secs_f64()),
    };
    Ok((LockStore::new(config)?, timeout))
}
