//! Stopping before the end of the input: what was begun is finished, nothing
//! else is begun.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Why.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// The number of the signal.
    Signal(i32),
    /// Results can no longer be written.
    Output,
    /// Something else failed; what.
    Failed(Arc<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(_) => f.write_str("interrupted"),
            Self::Output => f.write_str("stopped, as nobody takes the results"),
            Self::Failed(what) => write!(f, "stopped by a failure ({what})"),
        }
    }
}

/// A handle, shared by all.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    reason: watch::Sender<Option<Reason>>,
}

/// Waits for the stop.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    reason: watch::Receiver<Option<Reason>>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        let (reason, _) = watch::channel(None);
        Self { reason }
    }

    /// Stops; the first reason counts.
    pub(crate) fn because(&self, reason: Reason) {
        self.reason.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(reason);
            is_first
        });
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason.borrow().clone()
    }

    pub(crate) fn listen(&self) -> Stopped {
        Stopped {
            reason: self.reason.subscribe(),
        }
    }
}

impl Stopped {
    /// Resolves when, or if already, stopped. May be dropped at any point.
    pub(crate) async fn wait(&mut self) {
        if self.reason.wait_for(Option::is_some).await.is_err() {
            // Nobody is left who could stop.
            std::future::pending::<()>().await;
        }
    }
}

/// Which messages were read and not begun.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotBegun {
    count: u64,
    first: u64,
    last: u64,
}

impl NotBegun {
    pub(crate) fn add(&mut self, seq: u64) {
        self.add_all(1, (seq, seq));
    }

    /// Adds `count` messages from the one with the first to the one with the
    /// last `seq`.
    pub(crate) fn add_all(&mut self, count: u64, (first, last): (u64, u64)) {
        if count == 0 {
            return;
        }
        if self.count == 0 {
            self.first = first;
        }
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.count += count;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.add_all(other.count, (other.first, other.last));
    }
}

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, first, last } = self;
        match count {
            0 => f.write_str("every message that was read was begun"),
            1 => write!(f, "1 message was read and not begun (seq {first})"),
            _ if last - first + 1 == *count => {
                write!(
                    f,
                    "{count} messages were read and not begun (seq {first}-{last})"
                )
            }
            _ => write!(
                f,
                "{count} messages were read and not begun \
                 (of seq {first}-{last}, those without a line in the output)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let stop = Stop::new();
        assert!(stop.reason().is_none());
        stop.because(Reason::Signal(2));
        stop.because(Reason::Output);
        assert!(matches!(stop.reason(), Some(Reason::Signal(2))));
    }

    #[test]
    fn what_was_not_begun_is_named_exactly_where_it_can_be() {
        let mut left = NotBegun::default();
        assert_eq!(left.to_string(), "every message that was read was begun");
        left.add(45);
        assert_eq!(
            left.to_string(),
            "1 message was read and not begun (seq 45)"
        );
        left.add_all(2, (46, 47));
        assert_eq!(
            left.to_string(),
            "3 messages were read and not begun (seq 45-47)"
        );
        let mut other = NotBegun::default();
        other.add(3);
        left.merge(other);
        left.merge(NotBegun::default());
        assert_eq!(
            left.to_string(),
            "4 messages were read and not begun (of seq 3-47, those without a line in the output)"
        );
    }
}
