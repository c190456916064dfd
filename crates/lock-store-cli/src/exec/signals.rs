//! The signals that we get, and by whom they were sent.

use std::{io, thread};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;

use crate::process::interrupt::is_ignored;

/// Those that are passed on.
const PASSED_ON: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// A signal, and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// Sent by the system, as by a terminal to all processes at its front.
    pub(super) by_system: bool,
}

/// Blocks what is to be passed on, in this thread and those that it starts.
///
/// What is ignored already stays so, also for the command: that is how `nohup`
/// and a shell's `&` ask for it.
pub(super) fn block() -> nix::Result<SigSet> {
    let mut blocked = SigSet::empty();
    for signal in PASSED_ON {
        if !is_ignored(SignalKind::from_raw(signal as i32)) {
            blocked.add(signal);
        }
    }
    blocked.thread_block()?;
    Ok(blocked)
}

/// Ends this process by a signal whose default that is, if it can be.
pub(super) fn die_of(signal: Signal) {
    let mut set = SigSet::empty();
    set.add(signal);
    // If it fails, we end with an exit code that says the same.
    let _ = set.thread_unblock();
    let _ = raise(signal);
}

/// The blocked signals, as they come.
pub(super) struct Signals(mpsc::UnboundedReceiver<Received>);

impl Signals {
    pub(super) fn listen(blocked: &SigSet) -> io::Result<Self> {
        let file = SignalFd::with_flags(blocked, SfdFlags::SFD_CLOEXEC)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        // It waits in a read, and ends with the process.
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || forward(&file, &sender))?;
        Ok(Self(receiver))
    }

    /// The next one. May be dropped at any point.
    pub(super) async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

fn forward(file: &SignalFd, sender: &mpsc::UnboundedSender<Received>) {
    loop {
        let info = match file.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(target: "lock_store", %error, "signals can no longer be read");
                return;
            }
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or_default();
        if let Ok(signal) = Signal::try_from(number) {
            let by_system = info.ssi_code == libc::SI_KERNEL;
            if sender.send(Received { signal, by_system }).is_err() {
                return;
            }
        }
    }
}
