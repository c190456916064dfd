//! From the runtime to an event loop.
//!
//! A thread of the runtime must not wait for the interpreter lock, and a task
//! must not cost a wake-up of its own. So a future that is done only leaves
//! its number in the mailbox of its loop. The first number in an empty mailbox
//! rings the bell: a byte into a socket pair, whose other end the loop watches
//! beside its other sockets. The loop then empties the whole mailbox at once,
//! and resumes the tasks.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::courier;
use crate::locked;
use crate::process::{Process, current};

/// Numbers of futures that are done, for one loop. Nothing of Python is in it.
pub(crate) struct Mailbox {
    ready: Mutex<Vec<u64>>,
    bell: Bell,
}

enum Bell {
    #[cfg(unix)]
    Socket(socket::Pair),
    /// For loops that watch no sockets.
    Courier(u64),
}

impl Mailbox {
    pub(crate) fn push(&self, number: u64) {
        let mut ready = locked(&self.ready);
        let was_empty = ready.is_empty();
        ready.push(number);
        drop(ready);
        if was_empty {
            match &self.bell {
                #[cfg(unix)]
                Bell::Socket(pair) => pair.ring(),
                Bell::Courier(bridge) => courier::ring(*bridge),
            }
        }
    }

    fn empty(&self) -> Vec<u64> {
        // The bell first: what is pushed from here on rings again.
        #[cfg(unix)]
        if let Bell::Socket(pair) = &self.bell {
            pair.silence();
        }
        std::mem::take(&mut *locked(&self.ready))
    }
}

/// The `asyncio` futures by which tasks wait, by number. Only touched with the
/// interpreter lock.
#[derive(Default)]
pub(crate) struct Waiters {
    futures: Mutex<HashMap<u64, Py<PyAny>>>,
    make: Mutex<Option<Py<PyAny>>>,
}

impl Waiters {
    /// A future to yield to the loop, which then resumes the task.
    pub(crate) fn add(&self, py: Python<'_>, number: u64) -> PyResult<Py<PyAny>> {
        let make = locked(&self.make).as_ref().map(|make| make.clone_ref(py));
        let Some(make) = make else {
            return Err(PyRuntimeError::new_err("the event loop is gone"));
        };
        let future = make.call0(py)?;
        // How asyncio knows that a task waits for it, rather than yields it.
        future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
        let before = locked(&self.futures).insert(number, future.clone_ref(py));
        drop(before);
        Ok(future)
    }

    pub(crate) fn remove(&self, number: u64) {
        let future = locked(&self.futures).remove(&number);
        drop(future);
    }

    fn take(&self, number: u64) -> Option<Py<PyAny>> {
        locked(&self.futures).remove(&number)
    }

    fn clear(&self) {
        let futures = std::mem::take(&mut *locked(&self.futures));
        let make = locked(&self.make).take();
        drop((futures, make));
    }
}

/// What an event loop has of ours: an attribute of it, so that both go
/// together.
#[pyclass(frozen, weakref, module = "lock_store")]
pub(crate) struct Bridge {
    process: &'static Process,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) waiters: Arc<Waiters>,
    /// Whether the loop is in a thread that Python does not wait for.
    in_daemon: bool,
}

impl Bridge {
    /// That of the loop that runs in this thread.
    pub(crate) fn of_running_loop<'py>(
        py: Python<'py>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let Some(event_loop) = running_loop(py)? else {
            return Err(PyRuntimeError::new_err(
                "no asyncio event loop is running in this thread; \
                 use `with`, `acquire()` or `result()` here",
            ));
        };
        let name = intern!(py, "_lock_store_bridge");
        if let Some(found) = event_loop.getattr_opt(name)?
            && let Ok(bridge) = found.cast_into::<Self>()
            && std::ptr::eq(bridge.get().process, process)
        {
            return Ok(bridge);
        }
        let bridge = Self::create(&event_loop, process)?;
        event_loop.setattr(name, &bridge)?;
        Ok(bridge)
    }

    fn create<'py>(
        event_loop: &Bound<'py, PyAny>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let make = event_loop.getattr("create_future")?.unbind();
        let in_daemon = in_daemon(py)?;
        let new = |bell| {
            let mailbox = Mailbox {
                ready: Mutex::default(),
                bell,
            };
            let waiters = Waiters {
                futures: Mutex::default(),
                make: Mutex::new(Some(make.clone_ref(py))),
            };
            let bridge = Self {
                process,
                mailbox: Arc::new(mailbox),
                waiters: Arc::new(waiters),
                in_daemon,
            };
            Bound::new(py, bridge)
        };
        #[cfg(unix)]
        {
            let pair = socket::Pair::new()?;
            let socket = pair.watched();
            let bridge = new(Bell::Socket(pair))?;
            match add_reader(event_loop, socket, &bridge) {
                Ok(()) => return Ok(bridge),
                Err(error)
                    if error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) => {}
                Err(error) => return Err(error),
            }
        }
        let number = process.next_number();
        let bridge = new(Bell::Courier(number))?;
        courier::serve(number, &bridge, event_loop)?;
        Ok(bridge)
    }
}

/// Has the loop call the bridge, in an empty context: it must not keep alive
/// what happens to be in the one of the first caller.
#[cfg(unix)]
fn add_reader(
    event_loop: &Bound<'_, PyAny>,
    socket: i32,
    bridge: &Bound<'_, Bridge>,
) -> PyResult<()> {
    let py = event_loop.py();
    let context = py.import("contextvars")?.getattr("Context")?.call0()?;
    let add = event_loop.getattr("add_reader")?;
    context.call_method1("run", (add, socket, bridge))?;
    Ok(())
}

fn in_daemon(py: Python<'_>) -> PyResult<bool> {
    let thread = py.import("threading")?.call_method0("current_thread")?;
    thread.getattr("daemon")?.is_truthy()
}

/// The event loop that runs in this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let get = GET.import(py, "asyncio", "_get_running_loop")?;
    let event_loop = get.call0()?;
    Ok((!event_loop.is_none()).then_some(event_loop))
}

#[pymethods]
impl Bridge {
    /// Resumes the tasks whose futures are done.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        if !self.process.is_current() {
            return Ok(());
        }
        let _inside = self.process.inside();
        let ready = self.mailbox.empty();
        // From the exit on the interpreter ends such a thread in the midst of
        // what it does, which must not be this.
        if self.in_daemon && self.process.exiting.load(Ordering::Acquire) {
            return Ok(());
        }
        for number in ready {
            let Some(future) = self.waiters.take(number) else {
                continue;
            };
            let future = future.bind(py);
            let is_done = future.call_method0(intern!(py, "done"))?;
            if !is_done.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A collection may come while this very thread is at the map: then
        // what is in it counts as reachable this time.
        if let Ok(futures) = self.waiters.futures.try_lock() {
            for future in futures.values() {
                visit.call(future)?;
            }
        }
        if let Ok(make) = self.waiters.make.try_lock() {
            visit.call(&*make)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.waiters.clear();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Operations may outlive the loop, but have no use for these then.
        self.waiters.clear();
        if let Bell::Courier(number) = self.mailbox.bell
            && std::ptr::eq(self.process, current())
        {
            courier::forget(number);
        }
    }
}

#[cfg(unix)]
mod socket {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// Both ends have one owner: a bell that rings after the loop is gone
    /// finds somebody at the other end.
    pub(super) struct Pair {
        watched: UnixStream,
        rung: UnixStream,
    }

    impl Pair {
        pub(super) fn new() -> std::io::Result<Self> {
            let (watched, rung) = UnixStream::pair()?;
            watched.set_nonblocking(true)?;
            rung.set_nonblocking(true)?;
            Ok(Self { watched, rung })
        }

        pub(super) fn watched(&self) -> i32 {
            self.watched.as_raw_fd()
        }

        pub(super) fn ring(&self) {
            // When it is full it has rung enough.
            let _ = (&self.rung).write(&[1]);
        }

        pub(super) fn silence(&self) {
            let _ = (&self.watched).read(&mut [0; 64]);
        }
    }
}
