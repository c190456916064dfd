//! What belongs to one process, and must not be carried over a `fork`.
//!
//! In the child of a fork only the thread that forked is left. The runtime is
//! gone, and a mutex that another thread held stays locked for ever. So the
//! child begins with a `Process` of its own, and touches nothing of the one
//! it inherited, which is neither dropped nor locked: see [`Ours`].
//!
//! What decides between them must not be locked either. The processes are a
//! chain of which the last one counts; it has as many links as there were
//! forks between the first importer and this process, one or two in practice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::courier::Courier;
use crate::error::Failure;
use crate::lent::GiveBack;
use crate::locked;
use crate::log::Events;
use crate::open::Opened;
use crate::slot::Slot;

/// One process: its runtime, and what has to be seen after when it exits.
#[derive(Default)]
pub(crate) struct Process {
    engine: OnceLock<Engine>,
    /// Held while the runtime is started, and only by threads that hold the
    /// interpreter lock and keep it meanwhile.
    starting: Mutex<()>,
    pub(crate) exiting: AtomicBool,
    pub(crate) under_way: UnderWay,
    pub(crate) events: Events,
    pub(crate) courier: Courier,
    /// The guards and the places that Python holds.
    pub(crate) held: Mutex<HashMap<u64, Weak<dyn GiveBack>>>,
    /// The stores that are open.
    pub(crate) stores: Mutex<Vec<Weak<Opened>>>,
    /// Whoever gives a ticket back just now, and stores that nobody holds any
    /// more but which do: an exit waits for them.
    pub(crate) parting: TaskTracker,
    /// The threads of Python that are in code of ours; see
    /// [`inside`](Self::inside).
    pub(crate) inside: TaskTracker,
    numbers: AtomicU64,
    next: OnceLock<Box<Process>>,
}

struct Engine {
    handle: Handle,
    stop: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// How long the runtime may take to end what cannot be stopped: asking for
/// the address of a host.
const LAST_MOMENTS: Duration = Duration::from_millis(200);

/// The process in which this runs.
pub(crate) fn current() -> &'static Process {
    static FIRST: OnceLock<Process> = OnceLock::new();
    let mut process = FIRST.get_or_init(Process::default);
    while let Some(next) = process.next.get() {
        process = next;
    }
    process
}

/// Has every child of a fork begin anew.
pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // In place before anybody can fork.
    current();
    let options = pyo3::types::PyDict::new(module.py());
    options.set_item("before", wrap_pyfunction!(before_fork, module)?)?;
    options.set_item("after_in_parent", wrap_pyfunction!(after_fork, module)?)?;
    options.set_item("after_in_child", wrap_pyfunction!(begin_anew, module)?)?;
    let os = module.py().import("os")?;
    match os.getattr_opt("register_at_fork")? {
        Some(register) => register.call((), Some(&options)).map(drop),
        // Without fork.
        None => Ok(()),
    }
}

#[pyfunction]
fn before_fork(py: Python<'_>) {
    py.detach(|| current().events.before_fork());
}

#[pyfunction]
fn after_fork() {
    current().events.after_fork();
}

#[pyfunction]
fn begin_anew() {
    let _ = current().next.set(Box::default());
}

impl Process {
    pub(crate) fn is_current(&self) -> bool {
        std::ptr::eq(self, current())
    }

    /// A number that is given once.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The runtime, which the first call starts.
    pub(crate) fn runtime(&'static self, py: Python<'_>) -> Result<&'static Handle, Failure> {
        if self.exiting.load(Ordering::Acquire) {
            return Err(Failure::Exiting);
        }
        match self.engine.get() {
            Some(engine) => Ok(&engine.handle),
            None => self.start(py),
        }
    }

    /// The runtime, if it was started.
    pub(crate) fn running(&'static self) -> Option<&'static Handle> {
        self.engine.get().map(|engine| &engine.handle)
    }

    /// For a thread of Python, while it is in code of ours that lets others
    /// have the interpreter lock. An exit waits until it is out again: what it
    /// just began is given back, too; and the interpreter ends a thread that
    /// wants its lock later in the midst of what it does, which ours must not
    /// see.
    ///
    /// With the interpreter lock, without which an exit does not begin. Who is
    /// in here before that is waited for; who comes later finds `exiting`.
    pub(crate) fn inside(&self) -> TaskTrackerToken {
        self.inside.token()
    }

    /// Drops what may give a ticket back, so that an exit does not come in
    /// between.
    pub(crate) fn give_back<T>(&'static self, take: impl FnOnce() -> T) {
        let parting = self.parting.token();
        let entered = self.enter();
        drop(take());
        drop(entered);
        drop(parting);
    }

    /// Makes this thread one in which futures of the runtime may be polled and
    /// dropped.
    pub(crate) fn enter(&'static self) -> Option<EnterGuard<'static>> {
        self.running().map(Handle::enter)
    }

    #[cold]
    fn start(&'static self, py: Python<'_>) -> Result<&'static Handle, Failure> {
        let starting = locked(&self.starting);
        if self.engine.get().is_none() {
            let engine = Engine::start().map_err(|error| Failure::NoRuntime(error.to_string()))?;
            let _ = self.engine.set(engine);
        }
        drop(starting);
        crate::exit::watch_exit_of_child(py)?;
        self.running().ok_or(Failure::Exiting)
    }

    /// Ends the runtime with all that still runs in it. Without the
    /// interpreter lock.
    pub(crate) fn stop(&'static self) {
        let engine = self.engine.get();
        let Some((stop, thread)) = engine.and_then(|engine| locked(&engine.stop).take()) else {
            return;
        };
        let _ = stop.send(());
        let _ = thread.join();
    }
}

impl Engine {
    /// One thread: what the store does beside the futures that Python awaits
    /// is short, and a thread less is a wake-up less on the way of a reply.
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("lock-store-blocking")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("lock-store".into())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(LAST_MOMENTS);
            })?;
        Ok(Self {
            handle,
            stop: Mutex::new(Some((stop, thread))),
        })
    }
}

/// The futures that the runtime drives for Python, until Python has taken what
/// became of them. Only touched with the interpreter lock, and at the exit.
#[derive(Default)]
pub(crate) struct UnderWay {
    driven: Mutex<HashMap<u64, (AbortHandle, Arc<Slot>)>>,
    tasks: TaskTracker,
}

impl UnderWay {
    /// Not at the exit: nobody would stop it.
    pub(crate) fn begin<F>(&self, runtime: &Handle, number: u64, slot: Arc<Slot>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tasks.spawn_on(task, runtime).abort_handle();
        locked(&self.driven).insert(number, (task, slot));
    }

    /// Stops it, if it is not done.
    pub(crate) fn end(&self, number: u64) {
        let driven = locked(&self.driven).remove(&number);
        if let Some((task, _)) = driven {
            task.abort();
        }
    }

    /// Stops all, drops what Python did not take, and waits until no future is
    /// left.
    pub(crate) async fn end_all(&self) {
        let driven = std::mem::take(&mut *locked(&self.driven));
        for (task, _) in driven.values() {
            task.abort();
        }
        self.tasks.close();
        // Who waits for one is told by its end.
        self.tasks.wait().await;
        for (_, slot) in driven.into_values() {
            drop(slot.abandon());
        }
    }
}

/// A value of one process. Elsewhere it cannot be had, and is not dropped.
pub(crate) struct Ours<T> {
    process: &'static Process,
    value: Option<T>,
}

impl<T> Ours<T> {
    pub(crate) fn new(process: &'static Process, value: T) -> Self {
        let value = Some(value);
        Self { process, value }
    }

    pub(crate) fn process(&self) -> &'static Process {
        self.process
    }

    /// The value; `None` in a child.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process.is_current())
    }

    /// Takes it out; `None` in a child.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.process.is_current() {
            self.value.take()
        } else {
            None
        }
    }

    /// Puts another in its place, and returns what was there.
    pub(crate) fn replace(&mut self, value: T) -> Option<T> {
        self.take().inspect(|_| self.value = Some(value))
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else {
            return;
        };
        if self.process.is_current() {
            // Some futures are dropped on the runtime's ground only.
            let _entered = self.process.enter();
            drop(value);
        } else {
            std::mem::forget(value);
        }
    }
}
