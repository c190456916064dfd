//! A command that is started for each message.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_store::LockGuard;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};

use super::{LONGEST_RESPONSE, Limit, Response, json_or_text};
use crate::process::message::Message;
use crate::program;

/// How much of a command's standard error is shown: its end.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// The command and its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    timeout: Option<Duration>,
}

impl Command {
    /// Finds `program` as a shell does, so that a wrong name is one mistake
    /// and not one error for every message.
    pub(crate) fn find(
        program: &OsStr,
        arguments: Vec<OsString>,
        timeout: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let program = program::find(program)?;
        Ok(Self {
            program,
            arguments,
            timeout,
        })
    }

    /// Runs it for a message.
    pub(super) async fn run(&self, message: &Message, guard: &LockGuard) -> Response {
        let (mut child, mut group) = self
            .start(message, guard)
            .map_err(|error| format!("the command could not be started: {error}"))?;
        let limit = Limit {
            timeout: self.timeout,
            guard,
        };
        let ended = tokio::select! {
            biased;
            ended = talk(&mut child, &message.line) => ended,
            why = limit.exceeded() => Err(why),
        };
        match ended {
            Ok(response) => {
                group.has_ended();
                response
            }
            Err(why) => {
                group.kill();
                // The next message of the conversation must not meet it.
                let _ = child.wait().await;
                Err(why)
            }
        }
    }

    fn start(&self, message: &Message, guard: &LockGuard) -> io::Result<(Child, Group)> {
        let mut running = running();
        let Some(running) = &mut *running else {
            return Err(io::Error::other("no more commands are started"));
        };
        let child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env("LOCK_STORE_CONVERSATION_ID", message.id.as_str())
            .env("LOCK_STORE_TICKET", guard.ticket_number().to_string())
            .env(
                "LOCK_STORE_FENCING_TOKEN",
                guard.fencing_token().to_string(),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of its own, so that Ctrl-C in a terminal reaches only us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = Group::of(&child);
        running.extend(group.0);
        Ok((child, group))
    }
}

/// The process groups of all commands that run; `None` when no more may start.
static RUNNING: Mutex<Option<BTreeSet<Pid>>> = Mutex::new(Some(BTreeSet::new()));

fn running() -> MutexGuard<'static, Option<BTreeSet<Pid>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every command that runs, and lets no other start. A runtime that ends
/// may leave a task, and with it a command, as it stands.
pub(crate) fn kill_all() {
    for group in running().take().into_iter().flatten() {
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// The processes of a command, killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    /// Its number may be somebody else's from now on.
    fn has_ended(&mut self) {
        if let (Some(group), Some(running)) = (self.0.take(), &mut *running()) {
            running.remove(&group);
        }
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            if let Some(running) = &mut *running() {
                running.remove(&group);
            }
            // It fails only if they have all ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Gives a command its message, and waits for its response and its end. An
/// outer error is one that leaves it running.
async fn talk(child: &mut Child, line: &str) -> Result<Response, String> {
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("the command has no pipes".into());
    };
    // Not reaped before the pipes are closed: until then its number is its
    // own, and it is safe to kill its group.
    let ((), output, complaint) =
        tokio::try_join!(feed(stdin, line), read_output(stdout), read_end(stderr))
            .map_err(|error| format!("the pipes of the command: {error}"))?;
    let status = child
        .wait()
        .await
        .map_err(|error| format!("the end of the command is not known: {error}"))?;
    if status.success() {
        return Ok(Ok(json_or_text(&output)));
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint = complaint.trim();
    Ok(Err(if complaint.is_empty() {
        format!("the command failed ({status})")
    } else {
        format!("the command failed ({status}): {complaint}")
    }))
}

async fn feed(mut stdin: ChildStdin, line: &str) -> io::Result<()> {
    let fed = async {
        stdin.write_all(line.as_bytes()).await?;
        stdin.write_all(b"\n").await
    };
    match fed.await {
        // It may well answer without reading the message.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        fed => fed,
    }
}

async fn read_output(stdout: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    let mut stdout = stdout.take(LONGEST_RESPONSE as u64 + 1);
    stdout.read_to_end(&mut output).await?;
    if output.len() > LONGEST_RESPONSE {
        return Err(io::Error::other(format!(
            "its response is longer than {LONGEST_RESPONSE} bytes"
        )));
    }
    Ok(output)
}

async fn read_end(mut stderr: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while stderr.read_buf(&mut text).await? > 0 {
        if text.len() > 2 * LONGEST_COMPLAINT {
            text.drain(..text.len() - LONGEST_COMPLAINT);
        }
    }
    text.drain(..text.len().saturating_sub(LONGEST_COMPLAINT));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_long_complaint_the_end_is_kept() {
        let mut text = vec![b'x'; 5 * LONGEST_COMPLAINT];
        text.extend_from_slice(b"the reason");
        let end = read_end(&text[..]).await.unwrap();
        assert_eq!(end.len(), LONGEST_COMPLAINT);
        assert!(end.ends_with(b"xthe reason"));
    }

    #[tokio::test]
    async fn a_response_may_only_be_so_long() {
        let fits = vec![b'x'; LONGEST_RESPONSE];
        assert_eq!(read_output(&fits[..]).await.unwrap().len(), fits.len());
        let longer = vec![b'x'; LONGEST_RESPONSE + 1];
        let error = read_output(&longer[..]).await.unwrap_err().to_string();
        assert!(error.contains("longer than 16777216 bytes"));
    }
}
