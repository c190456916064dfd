//! Ctrl-C and its relatives.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stop::{Reason, Stop};
use crate::screen::Screen;

/// The signals that ask for an end.
pub(crate) struct Interrupts {
    signals: [(SignalKind, Signal); 3],
}

impl Interrupts {
    pub(crate) fn listen() -> std::io::Result<Self> {
        let listen = |kind| Ok::<_, std::io::Error>((kind, signal(kind)?));
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
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

    async fn next(&mut self) -> i32 {
        let [(a_kind, a), (b_kind, b), (c_kind, c)] = &mut self.signals;
        let kind = tokio::select! {
            _ = a.recv() => a_kind,
            _ = b.recv() => b_kind,
            _ = c.recv() => c_kind,
        };
        kind.as_raw_value()
    }
}

/// The exit code of what a signal ended, as shells have it.
pub(crate) fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
