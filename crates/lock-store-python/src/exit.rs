//! The end of the interpreter.
//!
//! Before Python takes itself apart, what is held is given back, and every
//! thread of ours ends: none may touch the interpreter later.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::locked;
use crate::open::Opened;
use crate::process::{Process, current};

/// How long an exit waits for a storage that does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much longer it waits for what waits for the storage itself.
const MARGIN: Duration = Duration::from_millis(500);

/// Called when this process exits, and when a child exits as Python does.
pub(crate) fn watch_exit(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?
        .call_method1("register", (wrap_pyfunction!(exit, py)?,))?;
    Ok(())
}

/// The children of `multiprocessing` exit in a way of their own, without
/// `atexit`.
pub(crate) fn watch_exit_of_child(py: Python<'_>) -> Result<(), Failure> {
    let modules = py.import("sys")?.getattr("modules")?;
    let util = modules.call_method1("get", ("multiprocessing.util",))?;
    if util.is_none() {
        return Ok(());
    }
    let options = PyDict::new(py);
    options.set_item("exitpriority", 0)?;
    let exit = wrap_pyfunction!(exit, py)?;
    util.call_method("Finalize", (py.None(), exit), Some(&options))?;
    Ok(())
}

#[pyfunction]
fn exit(py: Python<'_>) -> PyResult<()> {
    let process = current();
    if process.exiting.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let sys = py.import("sys")?;
    if sys.call_method0("is_finalizing")?.is_truthy()? {
        // A sub-interpreter that goes with the main one: whoever gives the
        // interpreter lock away now never gets it back.
        end(process, Others::Stuck);
    } else {
        py.detach(|| end(process, Others::GoOn));
    }
    Ok(())
}

/// The other threads of Python.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    GoOn,
    /// They do not get the interpreter lock.
    Stuck,
}

fn end(process: &'static Process, others: Others) {
    if let Some(runtime) = process.running() {
        // Whatever is not done by then expires.
        let _ = runtime.block_on(async {
            let limit = Instant::now() + PATIENCE;
            let giving_back = give_everything_back(process, others, limit);
            timeout_at(limit + MARGIN, giving_back).await
        });
    }
    process.stop();
    process.courier.stop();
    process.events.stop();
}

/// Tickets that wait leave their queues, locks that are held are released.
async fn give_everything_back(process: &'static Process, others: Others, limit: Instant) {
    process.under_way.end_all().await;
    give_back_held(process).await;
    if others == Others::GoOn {
        // Nothing is under way that they could wait for. What they had begun
        // they drop; what they had got is held now.
        process.inside.close();
        process.inside.wait().await;
        give_back_held(process).await;
    }
    // Other threads may be at it as well; from here on no ticket is left that
    // is not known to its store.
    process.parting.close();
    let _ = timeout_at(limit, process.parting.wait()).await;
    let stores: Vec<_> = locked(&process.stores).drain(..).collect();
    let stores = stores.iter().filter_map(std::sync::Weak::upgrade);
    join_all(stores.map(|store| close(store, limit))).await;
    if timeout_at(limit, process.parting.wait()).await.is_err() {
        tracing::warn!(
            target: "lock_store",
            "the exit did not wait for Redis any longer; what is not released expires",
        );
    }
}

async fn close(store: Arc<Opened>, limit: Instant) {
    let Some(store) = store.get() else {
        return;
    };
    // Rounded, to be read.
    let left = limit.saturating_duration_since(Instant::now());
    let left = Duration::from_millis(100) * u32::try_from(left.as_millis() / 100).unwrap_or(0);
    if let Err(error) = store.close_within(left).await {
        tracing::warn!(target: "lock_store", %error, "closing a store at the exit");
    }
}

async fn give_back_held(process: &'static Process) {
    let held: Vec<_> = locked(&process.held).drain().collect();
    for held in held.iter().filter_map(|(_, held)| held.upgrade()) {
        // In the background; the store is waited for.
        held.give_back().await;
    }
}
