//! `lock-store exec`: a command that runs while its conversation is locked.
//!
//! The way: its program is found, the lock is acquired, the [`Command`] is
//! started and looked after until it ends, and the lock is given back.

mod acquire;
pub(crate) mod child;
mod command;
mod signals;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use lock_store::{LockError, LockGuard, LockStore, Timing};
use nix::sys::signal::{Signal, raise};
use tokio::time::{Instant, sleep_until, timeout};

use crate::args::ExecArgs;
use crate::fleet;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::program::{self, NoProgram};
use crate::screen::Screen;
use acquire::{NotAcquired, acquire};
use command::{Change, Command};
use signals::{Received, Signals};

/// The lock was lost before the command had ended.
const LOST: u8 = 79;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How long we wait at the end for tickets to be given back.
const SOON: Duration = Duration::from_secs(2);

/// How often it is looked whether all processes of a lost command have ended.
const GLANCE: Duration = Duration::from_millis(20);

/// How we end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Code(u8),
    /// By this signal, as the command did.
    Signal(Signal),
}

/// Runs the command, and returns the exit code.
pub(crate) fn run(args: &ExecArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let Some((name, arguments)) = args.command.split_first() else {
        anyhow::bail!("no command is named; write it behind --");
    };
    let program = match program::find(name) {
        Ok(program) => program,
        Err(why) => {
            log.error(format_args!("{why}"));
            return Ok(match why {
                NoProgram::NotExecutable(_) => CANNOT_RUN,
                NoProgram::Absent(_) | NoProgram::Unknown(_) => NOT_FOUND,
            });
        }
    };
    // Before there are threads, which inherit it.
    let blocked = signals::block().context("signals cannot be blocked")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let ending = runtime.block_on(async {
        let mut signals = Signals::listen(&blocked).context("signals cannot be listened to")?;
        let exec = Exec {
            args,
            screen,
            log,
            program: &program,
            name,
            arguments,
        };
        exec.run(&mut signals).await
    });
    runtime.shutdown_timeout(SOON);
    match ending? {
        Ending::Code(code) => Ok(code),
        Ending::Signal(signal) => {
            signals::die_of(signal);
            Ok(exit_code(signal))
        }
    }
}

fn exit_code(signal: Signal) -> u8 {
    crate::process::interrupt::exit_code(signal as i32)
}

struct Exec<'a> {
    args: &'a ExecArgs,
    screen: &'a Screen,
    log: &'a Log,
    program: &'a Path,
    /// As it was typed.
    name: &'a OsStr,
    arguments: &'a [OsString],
}

impl Exec<'_> {
    async fn run(&self, signals: &mut Signals) -> anyhow::Result<Ending> {
        let _metrics = Metrics::serve(&self.args.metrics, self.screen).await?;
        let store = tokio::select! {
            store = self.store() => store?,
            signal = until_the_end(signals) => return Ok(Ending::Signal(signal)),
        };
        let acquired = tokio::select! {
            acquired = acquire(&store, self.args) => acquired,
            // What was asked for goes back when it is dropped.
            signal = until_the_end(signals) => {
                leave(&store).await;
                return Ok(Ending::Signal(signal));
            }
        };
        let ending = match acquired {
            Ok(guard) => self.under(guard, signals).await,
            Err(NotAcquired::Conflict(why)) => {
                self.log.error(format_args!("{why}"));
                Ok(Ending::Code(self.args.conflict_exit_code))
            }
            Err(NotAcquired::Failed(error)) => Err(error.into()),
        };
        leave(&store).await;
        ending
    }

    async fn store(&self) -> anyhow::Result<LockStore> {
        let fleet = fleet::open(&self.args.connection, "exec", self.log).await?;
        let timing = Timing {
            lock_lifetime: self
                .args
                .lifetime
                .unwrap_or(fleet.config.timing.lock_lifetime),
            ..fleet.config.timing
        };
        fleet.store(timing)
    }

    /// Starts the command, and looks after it until it has ended.
    async fn under(&self, guard: LockGuard, signals: &mut Signals) -> anyhow::Result<Ending> {
        let started = Command::start(self.program, self.name, self.arguments, &guard);
        let command = match started {
            Ok(command) => command,
            Err(error) => {
                self.give_back(guard).await;
                self.log
                    .error(format_args!("no process can be started: {error}"));
                return Ok(Ending::Code(CANNOT_RUN));
            }
        };
        let mut run = Run {
            command,
            signals,
            grace: self.args.grace,
        };
        let lost = run.until_ended_or_lost(&guard).await?;
        if let Some(error) = lost {
            self.log
                .error(format_args!("{error}; the command is ended"));
            run.end().await?;
            return Ok(Ending::Code(LOST));
        }
        let status = run.command.reap()?;
        let lost = if guard.is_lost() {
            // Its end may have come after that of the lease.
            Some(guard.lost().await)
        } else {
            self.give_back(guard).await
        };
        if let Some(error) = lost {
            self.log
                .error(format_args!("{error}; the command had ended ({status})"));
            return Ok(Ending::Code(LOST));
        }
        Ok(ending(status))
    }

    /// The loss, if it turns out that the lock was lost before.
    async fn give_back(&self, guard: LockGuard) -> Option<LockError> {
        let id = guard.conversation_id().clone();
        let deadline = guard.deadline();
        let error = match timeout(SOON, guard.release()).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) if error.is_lost() => return Some(error),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        tracing::warn!(
            target: "lock_store",
            conversation_id = %id,
            error = error.map(tracing::field::display),
            "the lock could not be given back yet; at the latest it ends by itself in {:.1} s",
            left.as_secs_f64(),
        );
        None
    }
}

fn ending(status: std::process::ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt as _;
    if status.signal() == Some(Signal::SIGINT as i32) {
        // A shell that runs a script goes on with it unless Ctrl-C ended us.
        return Ending::Signal(Signal::SIGINT);
    }
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ending::Code(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX),
    )
}

/// Resolves at a signal that ends us, while there is no command.
async fn until_the_end(signals: &mut Signals) -> Signal {
    loop {
        match signals.next().await.signal {
            // It fails for no signal that there is.
            Signal::SIGTSTP => _ = raise(Signal::SIGSTOP),
            Signal::SIGCONT | Signal::SIGWINCH => {}
            signal => return signal,
        }
    }
}

/// Waits a little for what goes back in the background.
async fn leave(store: &LockStore) {
    if let Err(error) = store.close_within(SOON).await {
        tracing::warn!(target: "lock_store", %error, "closing the store");
    }
}

/// The command at work.
struct Run<'s> {
    command: Command,
    signals: &'s mut Signals,
    grace: Duration,
}

impl Run<'_> {
    /// Passes signals on until the command has ended, or the lock is lost:
    /// then it returns the loss.
    async fn until_ended_or_lost(&mut self, guard: &LockGuard) -> io::Result<Option<LockError>> {
        let mut lost = pin!(guard.lost());
        loop {
            tokio::select! {
                biased;
                change = self.command.change() => match change? {
                    Change::Ended => return Ok(None),
                    Change::Stopped => stop_too(),
                },
                error = &mut lost => return Ok(Some(error)),
                received = self.signals.next() => self.command.pass_on(received),
            }
        }
    }

    /// Ends the command: SIGTERM, and SIGKILL when the grace is over.
    async fn end(&mut self) -> io::Result<()> {
        let grace_is_over = Instant::now() + self.grace;
        self.command.signal(Signal::SIGTERM);
        // One that is stopped would not notice.
        self.command.signal(Signal::SIGCONT);
        let ended = loop {
            tokio::select! {
                biased;
                change = self.command.change() => match change? {
                    Change::Ended => break true,
                    Change::Stopped => self.command.signal(Signal::SIGCONT),
                },
                () = sleep_until(grace_is_over) => break false,
                received = self.signals.next() => self.command.pass_on(received),
            }
        };
        while ended && Instant::now() < grace_is_over && self.command.has_left_others() {
            tokio::time::sleep(GLANCE).await;
        }
        self.command.signal(Signal::SIGKILL);
        self.command.reap()?;
        Ok(())
    }
}

/// Stops us as the command was stopped, so that the shell that started us has
/// its turn. Returns when we are continued.
fn stop_too() {
    // It fails for no signal that there is.
    let _ = raise(Signal::SIGSTOP);
}
