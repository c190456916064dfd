//! The Python module `lock_store._lock_store`.
//!
//! The way of a call: `store.lock()` (`store.rs`, `lock.rs`) makes an
//! [`Operation`](operation::Operation), which is polled on the calling thread
//! first. What is not ready then goes to the runtime (`process.rs`), and its
//! outcome comes back through a `Slot` (`slot.rs`): to an event loop by way
//! of its `Bridge` (`bridge.rs`), to a thread directly (`block.rs`).
//!
//! Two rules hold everywhere:
//!
//! - A thread of the runtime never waits for the interpreter lock, so a busy
//!   Python program does not keep the store from claiming what is its turn.
//! - After a `fork` the child touches nothing that it inherited: locks may be
//!   held in it by threads that are not there any more. See `process.rs`.

#![forbid(unsafe_code)]

mod answer;
mod block;
mod bridge;
mod config;
mod conversations;
mod convert;
mod courier;
mod entered;
mod error;
mod exit;
mod guard;
mod issuing;
mod lent;
mod lock;
mod log;
mod open;
mod operation;
mod place;
mod process;
mod slot;
mod store;
mod taking;
mod ticket;

use pyo3::prelude::*;

#[pymodule]
mod _lock_store {
    use lock_store::{
        DEFAULT_CLAIM_WINDOW, DEFAULT_CLOSE_LIMIT, DEFAULT_LOCK_LIFETIME, DEFAULT_WAIT_TIME,
    };
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::conversations::Conversations;
    #[pymodule_export]
    use super::guard::LockGuard;
    #[pymodule_export]
    use super::lock::Lock;
    #[pymodule_export]
    use super::operation::Operation;
    #[pymodule_export]
    use super::place::Place;
    #[pymodule_export]
    use super::store::{_rasa_store, LockStore};
    #[pymodule_export]
    use super::ticket::{Ticket, TicketLock};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        for (name, time) in [
            ("DEFAULT_LOCK_LIFETIME", DEFAULT_LOCK_LIFETIME),
            ("DEFAULT_WAIT_TIME", DEFAULT_WAIT_TIME),
            ("DEFAULT_CLAIM_WINDOW", DEFAULT_CLAIM_WINDOW),
            ("DEFAULT_CLOSE_LIMIT", DEFAULT_CLOSE_LIMIT),
        ] {
            module.add(name, time.as_secs_f64())?;
        }
        super::process::watch_forks(module)?;
        super::exit::watch_exit(module.py())?;
        super::log::begin(module)
    }
}

/// Locks a mutex; what a thread that panicked left in it is still consistent,
/// as every change under these is a single step.
fn locked<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
