//! For event loops that watch no sockets: a thread that tells them by
//! `call_soon_threadsafe`. It waits for the interpreter lock, so the threads
//! of the runtime need not.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use crate::bridge::Bridge;
use crate::locked;
use crate::process::current;

/// To the courier of this process.
#[derive(Default)]
pub(crate) struct Courier(OnceLock<Mutex<Sender<Letter>>>);

enum Letter {
    Serve(u64, Served),
    Ring(u64),
    Forget(u64),
    /// The interpreter exits.
    Stop,
}

/// A bridge and its loop, which the courier does not keep alive.
struct Served {
    bridge: Py<PyWeakrefReference>,
    event_loop: Py<PyWeakrefReference>,
}

impl Courier {
    fn send(&self, letter: Letter) {
        if let Some(sender) = self.0.get() {
            let _ = locked(sender).send(letter);
        }
    }

    pub(crate) fn stop(&self) {
        self.send(Letter::Stop);
    }
}

/// Has the courier serve a bridge from now on.
pub(crate) fn serve(
    number: u64,
    bridge: &Bound<'_, Bridge>,
    event_loop: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let courier = &current().courier;
    if courier.0.get().is_none() {
        let (sender, letters) = channel();
        std::thread::Builder::new()
            .name("lock-store-courier".into())
            .spawn(move || deliver(&letters))?;
        let _ = courier.0.set(Mutex::new(sender));
    }
    let served = Served {
        bridge: PyWeakrefReference::new(bridge)?.unbind(),
        event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
    };
    courier.send(Letter::Serve(number, served));
    Ok(())
}

pub(crate) fn ring(bridge: u64) {
    current().courier.send(Letter::Ring(bridge));
}

pub(crate) fn forget(bridge: u64) {
    current().courier.send(Letter::Forget(bridge));
}

fn deliver(letters: &Receiver<Letter>) {
    let mut served: HashMap<u64, Served> = HashMap::new();
    while let Ok(letter) = letters.recv() {
        let go_on = Python::try_attach(|py| match letter {
            Letter::Serve(number, bridge) => {
                served.insert(number, bridge);
                true
            }
            Letter::Forget(number) => {
                served.remove(&number);
                true
            }
            Letter::Ring(number) => {
                if let Some(served) = served.get(&number) {
                    served.ring(py);
                }
                true
            }
            Letter::Stop => {
                served.clear();
                false
            }
        });
        if go_on != Some(true) {
            return;
        }
    }
}

impl Served {
    /// A loop that is closed has nobody to tell.
    fn ring(&self, py: Python<'_>) {
        use pyo3::types::PyWeakrefMethods;
        let bridge = self.bridge.bind(py).upgrade();
        let event_loop = self.event_loop.bind(py).upgrade();
        if let (Some(bridge), Some(event_loop)) = (bridge, event_loop) {
            let _ = event_loop.call_method1("call_soon_threadsafe", (bridge,));
        }
    }
}
