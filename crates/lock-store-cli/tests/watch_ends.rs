//! `watch` where there is no terminal, and what ends it: signals, also while
//! nobody reads what it writes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "watch/fleet.rs"]
mod fleet;

use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use common::{end_of, until};
use fleet::Fleet;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// It is ended when a test fails.
struct Watching(Child);

impl Watching {
    /// Started, and listening to signals.
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let watching = Self(child);
        until("it listens to signals", || {
            watching.has("SigCgt", Signal::SIGTERM)
        });
        watching
    }

    /// Whether the signal is in this mask.
    fn has(&self, mask: &str, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(mask));
        let mask = line.unwrap().trim_start_matches(':').trim();
        u64::from_str_radix(mask, 16).unwrap() >> (signal as i32 - 1) & 1 == 1
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        end_of(&mut self.0)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe that is full, as of a pager whose reader looks at its first page.
fn full_pipe(flags: OFlag) -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let full = loop {
        if let Err(error) = writer.write(&[b' '; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
    (reader, writer)
}

#[test]
fn a_reader_that_stands_still_keeps_no_signal_from_it() {
    let fleet = Fleet::new();
    for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
        let (_reader, writer) = full_pipe(flags);
        let mut command = fleet.watch(&["--json"]);
        command.stdout(writer);
        let mut watching = Watching::start(command);
        watching.signal(Signal::SIGTERM);
        assert_eq!(watching.ended().code(), Some(143), "{flags:?}");
    }
}

#[test]
fn it_waits_for_its_reader_whatever_the_pipe_is_set_to() {
    let fleet = Fleet::new();
    for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
        let (mut reader, writer) = full_pipe(flags);
        let mut command = fleet.watch(&["--json", "--count", "1"]);
        command.stdout(writer);
        let mut watching = Watching::start(command);
        let mut seen = String::new();
        reader.read_to_string(&mut seen).unwrap();
        let line = seen.trim();
        assert!(
            line.starts_with('{') && line.contains("\"conversations\":0"),
            "{line}"
        );
        assert_eq!(watching.ended().code(), Some(0), "{flags:?}");
    }
}

/// As `nohup` wants it.
#[test]
fn a_hang_up_that_is_ignored_does_not_end_it() {
    let fleet = Fleet::new();
    let watch = fleet.watch(&["--json"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(watch.get_program())
        .args(watch.get_args())
        .stdout(Stdio::null());
    let mut watching = Watching::start(command);
    assert!(watching.has("SigIgn", Signal::SIGHUP));
    watching.signal(Signal::SIGHUP);
    watching.signal(Signal::SIGINT);
    assert_eq!(watching.ended().code(), Some(130));
}
