//! Who is inside of a request that was entered, and how they get out.
//!
//! A task does not always get out itself. When its loop was closed by hand, its
//! coroutine is closed by whoever collects it, in another task or in none; and
//! a generator that is not gone through to its end is closed by a task of its
//! own.

use std::sync::{Arc, Mutex, Weak};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::bridge::running_loop;
use crate::guard::LockGuard;
use crate::locked;

/// A task, or a thread; by its address or its number while it is in there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Task(usize),
    /// One that was collected; or whoever is where no loop runs.
    NoTask,
    Thread(std::thread::ThreadId),
}

impl Who {
    /// Fails where no loop runs.
    pub(crate) fn task(py: Python<'_>) -> PyResult<Self> {
        current_task(py).map(|task| Self::of(&task))
    }

    pub(crate) fn task_if_any(py: Python<'_>) -> PyResult<Self> {
        match running_loop(py)? {
            Some(_) => Self::task(py),
            None => Ok(Self::NoTask),
        }
    }

    pub(crate) fn thread() -> Self {
        Self::Thread(std::thread::current().id())
    }

    fn of(task: &Bound<'_, PyAny>) -> Self {
        Self::Task(task.as_ptr().addr())
    }

    fn is_thread(self) -> bool {
        matches!(self, Self::Thread(_))
    }
}

fn current_task(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "current_task")?.call0()
}

/// Somebody who is inside, or about to be.
pub(crate) struct Visitor {
    pub(crate) who: Who,
    task: Option<Task>,
}

/// A task that is not kept alive.
struct Task {
    /// Tells when it is collected, before its address is another's.
    itself: Py<PyWeakrefReference>,
    /// If it is one that allows it.
    event_loop: Option<Py<PyWeakrefReference>>,
}

impl Task {
    fn has_loop(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(event_loop) = &self.event_loop else {
            return Ok(true);
        };
        match event_loop.bind(py).upgrade() {
            Some(event_loop) => Ok(!event_loop.call_method0("is_closed")?.is_truthy()?),
            None => Ok(false),
        }
    }
}

impl Visitor {
    pub(crate) fn thread() -> Self {
        Self {
            who: Who::thread(),
            task: None,
        }
    }
}

/// Those who are inside.
pub(crate) struct Entered {
    inside: Arc<Mutex<Inside>>,
    watch: PyOnceLock<Py<Collected>>,
}

/// With their guards: of one whose lease ran out in there, and of the next.
type Inside = Vec<(Visitor, Py<LockGuard>)>;

impl Entered {
    pub(crate) fn new() -> Self {
        Self {
            inside: Arc::default(),
            watch: PyOnceLock::new(),
        }
    }

    /// The task that runs in this thread's loop.
    pub(crate) fn visitor(&self, py: Python<'_>) -> PyResult<Visitor> {
        let task = current_task(py)?;
        let who = Who::of(&task);
        // A callback of the loop is in no task.
        if task.is_none() {
            return Ok(Visitor { who, task: None });
        }
        let watch = self.watch.get_or_try_init(py, || {
            let inside = Arc::downgrade(&self.inside);
            Py::new(py, Collected { inside })
        })?;
        let event_loop = running_loop(py)?;
        let event_loop = event_loop.and_then(|it| PyWeakrefReference::new(&it).ok());
        let task = Task {
            itself: PyWeakrefReference::new_with(&task, watch)?.unbind(),
            event_loop: event_loop.map(Bound::unbind),
        };
        Ok(Visitor {
            who,
            task: Some(task),
        })
    }

    pub(crate) fn has(&self, who: Who) -> bool {
        locked(&self.inside)
            .iter()
            .any(|(other, _)| other.who == who)
    }

    pub(crate) fn enter(&self, visitor: Visitor, guard: Py<LockGuard>) {
        locked(&self.inside).push((visitor, guard));
    }

    pub(crate) fn leave(&self, who: Who) -> Option<Py<LockGuard>> {
        self.take(|inside| inside.iter().position(|(other, _)| other.who == who))
    }

    /// The guard of somebody who is closed here, and who may be another than
    /// `who`.
    pub(crate) fn close(&self, who: Who) -> Option<Py<LockGuard>> {
        self.take(|inside| closed(inside, who))
    }

    fn take(&self, find: impl FnOnce(&Inside) -> Option<usize>) -> Option<Py<LockGuard>> {
        let mut inside = locked(&self.inside);
        let place = find(&inside)?;
        let (visitor, guard) = inside.swap_remove(place);
        // What is dropped may run anything.
        drop(inside);
        drop(visitor);
        Some(guard)
    }
}

fn closed(inside: &Inside, who: Who) -> Option<usize> {
    let is_alike = |visitor: &Visitor| visitor.who.is_thread() == who.is_thread();
    let all = inside.iter().enumerate();
    let alike = all.filter(|(_, (other, _))| is_alike(other));
    let alike: Vec<_> = alike
        .map(|(place, (other, guard))| (place, other.who, guard))
        .collect();
    let find = |is_it: &dyn Fn(Who, &LockGuard) -> bool| {
        let found = alike
            .iter()
            .find(|(_, who, guard)| is_it(*who, guard.get()));
        found.map(|(place, ..)| *place)
    };
    if alike.len() == 1 {
        return find(&|_, _| true);
    }
    // Of several one has the lock at most, and which of them is closed cannot
    // be told. Nobody is to lose a lock by the end of another.
    find(&|_, guard| guard.is_released() || guard.is_lost())
        .or_else(|| find(&|other, _| other == Who::NoTask))
        .or_else(|| find(&|other, _| other == who))
}

/// Called with the weak reference of a task that is collected.
#[pyclass(frozen, module = "lock_store")]
struct Collected {
    inside: Weak<Mutex<Inside>>,
}

#[pymethods]
impl Collected {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((task, guard)) = self.take(task) else {
            return Ok(());
        };
        // It is closed next, if it was not at its end; but that may fail. Of
        // one that was, a generator may be left, with which others go on.
        if !task.has_loop(guard.py())? {
            guard.get().give_up();
        }
        Ok(())
    }
}

impl Collected {
    fn take<'py>(&self, task: &Bound<'py, PyAny>) -> Option<(Task, Bound<'py, LockGuard>)> {
        let inside = self.inside.upgrade()?;
        let mut inside = locked(&inside);
        let is_it = |known: &Task| known.itself.as_ptr() == task.as_ptr();
        let found = inside
            .iter_mut()
            .find(|(visitor, _)| visitor.task.as_ref().is_some_and(is_it));
        let (visitor, guard) = found?;
        visitor.who = Who::NoTask;
        let guard = guard.bind(task.py()).clone();
        Some((visitor.task.take()?, guard))
    }
}
