//! Ctrl-C and its relatives.

use std::fs;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stop::{Reason, Stop};
use crate::screen::Screen;

/// The signals that ask for an end.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// Unless it was ignored at the start: that is how `nohup` asks us to go
    /// on when the terminal is closed.
    hang_up: Option<Signal>,
}

impl Interrupts {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
        })
    }

    /// Stops at the first signal, and resolves at the second, with its number.
    pub(crate) async fn stop_then_wait(mut self, stop: &Stop, screen: &Screen) -> i32 {
        stop.because(Reason::Signal(self.next().await));
        screen.say(format_args!(
            "finishing what was begun; once more (Ctrl-C) stops at once"
        ));
        self.next().await
    }

    /// Resolves at a signal, with its number.
    pub(crate) async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            () = received(&mut self.hang_up) => SignalKind::hangup(),
        };
        kind.as_raw_value()
    }
}

/// A signal as it comes, unless it was ignored at the start.
pub(crate) fn unless_ignored(kind: SignalKind) -> std::io::Result<Option<Signal>> {
    (!is_ignored(kind)).then(|| signal(kind)).transpose()
}

/// Resolves when it comes; never if it is ignored.
pub(crate) async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a signal is ignored, as far as the system says.
pub(crate) fn is_ignored(kind: SignalKind) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored_in(&status, kind))
}

fn is_ignored_in(status: &str, kind: SignalKind) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// The exit code of what a signal ended, as shells have it.
pub(crate) fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_bits_of_a_mask() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(is_ignored_in(status, SignalKind::hangup()));
        assert!(!is_ignored_in(status, SignalKind::interrupt()));
        assert!(!is_ignored_in("Name:\tx\n", SignalKind::hangup()));
    }
}
