//! Signals, while something is being watched.

use std::io;

use nix::sys::signal as nix_signal;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::process::interrupt::{received, unless_ignored};

pub(crate) enum Wanted {
    /// To end, by this signal.
    End(i32),
    /// To make room for a shell.
    Suspend,
    /// To go on after that.
    Continue,
}

pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    /// Unless it is ignored, as `nohup` asks for.
    hang_up: Option<Signal>,
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let of = |signal| SignalKind::from_raw(signal as i32);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
            stop: signal(of(nix_signal::SIGTSTP))?,
            go_on: signal(of(nix_signal::SIGCONT))?,
        })
    }

    /// May be dropped at any point.
    pub(crate) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.interrupt.recv() => Wanted::End(SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => Wanted::End(SignalKind::terminate().as_raw_value()),
            _ = self.quit.recv() => Wanted::End(SignalKind::quit().as_raw_value()),
            () = received(&mut self.hang_up) => Wanted::End(SignalKind::hangup().as_raw_value()),
            _ = self.stop.recv() => Wanted::Suspend,
            _ = self.go_on.recv() => Wanted::Continue,
        }
    }
}

/// Stops this process until somebody lets it go on.
pub(crate) fn stop_here() -> io::Result<()> {
    Ok(nix_signal::raise(nix_signal::SIGSTOP)?)
}
