//! The command, from its start to its end.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};

use lock_store::LockGuard;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::signal::unix::{self, SignalKind};

use super::{Received, child};

/// A command that runs, or has ended and was not reaped: until then its number
/// is its own, and it is safe to send it signals.
pub(super) struct Command {
    child: Child,
    pid: Pid,
    /// Without a terminal it has a process group of its own. With one it shares
    /// ours, as whoever reads from a terminal has to be in the group at its
    /// front, and with us are those that expect Ctrl-C together with us: a
    /// script that we are in, the rest of a pipeline.
    has_own_group: bool,
    /// `SIGCHLD`.
    changed: unix::Signal,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Ended,
    /// It was stopped, as by Ctrl-Z.
    Stopped,
}

impl Command {
    pub(super) fn start(
        program: &Path,
        name: &OsStr,
        arguments: &[OsString],
        guard: &LockGuard,
    ) -> io::Result<Self> {
        // Before there is anything to miss. It also sees to it that the end of
        // a child is told although our parent may have ignored such signals.
        let changed = unix::signal(SignalKind::child())?;
        let has_own_group = !has_terminal();
        let mut command = child::prepare(program, name, arguments);
        command
            .env(
                "LOCK_STORE_CONVERSATION_ID",
                guard.conversation_id().as_str(),
            )
            .env("LOCK_STORE_TICKET", guard.ticket_number().to_string())
            .env(
                "LOCK_STORE_FENCING_TOKEN",
                guard.fencing_token().to_string(),
            );
        if has_own_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Self {
            child,
            pid: Pid::from_raw(pid),
            has_own_group,
            changed,
        })
    }

    /// Resolves at a change; once it has ended, at once. May be dropped at any
    /// point.
    pub(super) async fn change(&mut self) -> io::Result<Change> {
        loop {
            if self.has_ended()? {
                return Ok(Change::Ended);
            }
            if !self.has_own_group && self.was_stopped()? {
                return Ok(Change::Stopped);
            }
            self.changed.recv().await;
        }
    }

    fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let status = waitid(Id::Pid(self.pid), flags)?;
        Ok(!matches!(status, WaitStatus::StillAlive))
    }

    /// Whether it was stopped since the last look.
    fn was_stopped(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(status) => Ok(matches!(status, WaitStatus::Stopped(..))),
            // It has ended this moment.
            Err(Errno::ECHILD) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes a signal on that was sent to us.
    pub(super) fn pass_on(&self, received: Received) {
        // What a terminal sends it sends to all in our group.
        let has_it = !self.has_own_group
            && received.by_system
            && matches!(
                received.signal,
                Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGWINCH
            );
        if !has_it {
            self.signal(received.signal);
        }
    }

    /// Sends it a signal, and to all that it started if we can tell them from
    /// others.
    pub(super) fn signal(&self, signal: Signal) {
        // It fails only if they have all ended.
        let _ = if self.has_own_group {
            killpg(self.pid, signal)
        } else {
            kill(self.pid, signal)
        };
    }

    /// Whether processes that it started are at work after its end, as far as
    /// we can tell.
    pub(super) fn has_left_others(&self) -> bool {
        self.has_own_group && has_live_members(self.pid)
    }

    /// Waits for its end, and takes note of it.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// Whether Ctrl-C on some terminal may be meant for us.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether any process of a group has not ended.
fn has_live_members(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let stats =
        processes.filter_map(|process| fs::read_to_string(process.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| state_and_group(&stat))
        .any(|(state, of)| of == group.as_raw() && !matches!(state, 'Z' | 'X'))
}

/// From a line of `/proc/*/stat`: `1 (a name) S parent group …`.
fn state_and_group(stat: &str) -> Option<(char, i32)> {
    // The name may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((state, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest() {
        let stat = "12 (a) Z 1 (b) S 1 77 3 0 -1";
        assert_eq!(state_and_group(stat), Some(('S', 77)));
        assert_eq!(state_and_group(""), None);
    }

    #[test]
    fn our_own_group_has_a_live_member() {
        assert!(has_live_members(nix::unistd::getpgrp()));
        assert!(!has_live_members(Pid::from_raw(i32::MAX)));
    }
}
