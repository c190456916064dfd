//! What becomes the command: this program once more, in a process of its own,
//! which puts right what a process can only put right by itself, and then runs
//! the command in its place.
//!
//! We block the signals that are passed on, and a process inherits that. It
//! also asks for SIGTERM at our death. Both could be done between `fork` and
//! `exec`, by code that is not safe in the sense of Rust.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use super::{CANNOT_RUN, NOT_FOUND};

/// The first argument of such a process; no subcommand is called like this.
const MARK: &str = "--become-the-command-of-exec";

/// This program, also if its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// Such a process, not yet started, for a program that was called `name`.
pub(super) fn prepare(program: &Path, name: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = Command::new(OURSELVES);
    command
        .arg(MARK)
        .arg(std::process::id().to_string())
        .arg(program)
        .arg(name)
        .args(arguments);
    command
}

/// Becomes the command if this is such a process, and returns only if that
/// failed.
pub(crate) fn become_the_command() -> Option<ExitCode> {
    let mut words = env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    let parent = words.next()?.into_string().ok()?.parse::<i32>().ok()?;
    let (program, name) = (words.next()?, words.next()?);
    // Without it the command only outlives us.
    let _ = set_pdeathsig(Signal::SIGTERM);
    if getppid().as_raw() != parent {
        // It died before.
        return Some(ExitCode::from(CANNOT_RUN));
    }
    // What came meanwhile comes now, and ends this process as it would the
    // command.
    if let Err(error) = SigSet::all().thread_unblock() {
        return Some(failed(&program, &error.into()));
    }
    let mut command = Command::new(&program);
    let error = command.arg0(name).args(words).exec();
    Some(failed(&program, &error))
}

fn failed(program: &OsStr, error: &io::Error) -> ExitCode {
    // It was there: what is missing is what its first line names.
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "; is the program of its #! line there?"),
        _ => (CANNOT_RUN, ""),
    };
    let name = program.display();
    crate::screen::Screen::new().say(format_args!(
        "error: the command {name} cannot be run: {error}{hint}"
    ));
    ExitCode::from(code)
}
