//! Where the outcome of a future is left for Python.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::answer::Outcome;
use crate::bridge::Mailbox;
use crate::error::Failure;
use crate::locked;
use crate::operation::Work;
use crate::process::Process;

/// Filled once by the runtime, emptied once by Python, or abandoned.
pub(crate) struct Slot {
    content: Mutex<Content>,
    /// For a thread that waits.
    filled: Condvar,
}

enum Content {
    Empty,
    Filled(Box<Outcome>),
    /// Nobody will come for it: an outcome is dropped, which gives back what
    /// is in it.
    Abandoned,
}

impl Slot {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::new(Content::Empty),
            filled: Condvar::new(),
        })
    }

    /// Whether somebody is going to take it.
    fn fill(&self, outcome: Outcome) -> bool {
        let mut content = locked(&self.content);
        if let Content::Empty = *content {
            *content = Content::Filled(Box::new(outcome));
            drop(content);
            self.filled.notify_one();
            return true;
        }
        drop(content);
        drop(outcome);
        false
    }

    pub(crate) fn take(&self) -> Option<Outcome> {
        let mut content = locked(&self.content);
        match std::mem::replace(&mut *content, Content::Abandoned) {
            Content::Filled(outcome) => Some(*outcome),
            other => {
                *content = other;
                None
            }
        }
    }

    /// What was in it is to be dropped by the caller.
    pub(crate) fn abandon(&self) -> Option<Outcome> {
        let content = std::mem::replace(&mut *locked(&self.content), Content::Abandoned);
        // At the exit somebody may wait.
        self.filled.notify_one();
        match content {
            Content::Filled(outcome) => Some(*outcome),
            Content::Empty | Content::Abandoned => None,
        }
    }

    /// Blocks until it is filled, or until then. Without the interpreter lock.
    pub(crate) fn wait(&self, until: Instant) {
        let mut content = locked(&self.content);
        while matches!(*content, Content::Empty) {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            content = match self.filled.wait_timeout(content, left) {
                Ok((content, _)) => content,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// A future in the hands of the runtime. Dropping it stops the future, or
/// drops its outcome if that came first.
pub(crate) struct Driven {
    process: &'static Process,
    pub(crate) number: u64,
    pub(crate) slot: Arc<Slot>,
}

impl Driven {
    /// Hands a future that was polled before to the runtime. `mailbox` is told
    /// when it is done.
    pub(crate) fn begin(
        process: &'static Process,
        runtime: &Handle,
        work: Work,
        mailbox: Option<Arc<Mailbox>>,
    ) -> Self {
        let (number, slot) = (process.next_number(), Slot::new());
        let filler = Filler {
            number,
            slot: slot.clone(),
            mailbox,
        };
        let task = async move {
            // In this order, so that the work is dropped first, also when it
            // panics or is stopped, begun or not.
            let work = work;
            let filler = filler;
            let outcome = work.await;
            filler.fill(outcome);
        };
        process.under_way.begin(runtime, number, slot.clone(), task);
        Self {
            process,
            number,
            slot,
        }
    }
}

impl Driven {
    /// What became of it, if it is done. With the interpreter lock, without
    /// which an exit does not begin: what is taken here before that, is given
    /// to Python before that.
    pub(crate) fn take(&self) -> Option<Outcome> {
        let parting = self.process.parting.token();
        let outcome = self.slot.take();
        if self.process.exiting.load(Ordering::Acquire) {
            self.process.give_back(|| outcome);
            return None;
        }
        drop(parting);
        outcome
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.process.under_way.end(self.number);
        self.process.give_back(|| self.slot.abandon());
    }
}

/// Fills the slot, whatever becomes of the future.
struct Filler {
    number: u64,
    slot: Arc<Slot>,
    mailbox: Option<Arc<Mailbox>>,
}

impl Filler {
    fn fill(&self, outcome: Outcome) {
        if self.slot.fill(outcome)
            && let Some(mailbox) = &self.mailbox
        {
            mailbox.push(self.number);
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // Harmless when it is filled or abandoned.
        let failure = if std::thread::panicking() {
            Failure::Panicked
        } else {
            Failure::Exiting
        };
        self.fill(Err(failure));
    }
}
