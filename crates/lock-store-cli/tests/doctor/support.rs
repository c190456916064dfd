//! Runs the command, and reads what it found.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use redis_fixture::{Server, ServerBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{FOR_EVER, output_of};

pub(crate) const SECRET: &str = "s3cr3t-w0rd";

/// What a run found, as JSON.
pub(crate) struct Found {
    pub(crate) code: Option<i32>,
    lines: Vec<Value>,
}

/// A server as it comes, but for the log of slow commands: on a busy machine
/// any of them may be slow.
pub(crate) fn usual() -> ServerBuilder {
    Server::builder().config("slowlog-log-slower-than", "-1")
}

/// A server that has nothing wrong.
pub(crate) fn healthy() -> ServerBuilder {
    usual().config("appendonly", "yes")
}

/// Forgets which commands were slow, and takes no more notes.
pub(crate) fn forget_slow_commands(server: &Server) {
    for command in [
        &["CONFIG", "SET", "slowlog-log-slower-than", "-1"][..],
        &["SLOWLOG", "RESET"],
    ] {
        server.command(command).ok();
    }
}

/// The command in a folder of its own, which has these endpoints.
pub(crate) fn command(folder: &TempDir, endpoints: &str, arguments: &[&str]) -> Command {
    std::fs::write(folder.path().join("endpoints.yml"), endpoints).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
    command
        .arg("doctor")
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null());
    for name in ["RUST_LOG", "TICKET_LOCK_LIFETIME", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

/// Lets it look at these endpoints.
#[track_caller]
pub(crate) fn doctor(endpoints: &str) -> Found {
    doctor_with(endpoints, &[])
}

#[track_caller]
pub(crate) fn doctor_with(endpoints: &str, arguments: &[&str]) -> Found {
    let look = || {
        let folder = tempfile::tempdir().unwrap();
        let arguments = [&["--json"], arguments].concat();
        Found::read(&output_of(&mut command(&folder, endpoints, &arguments)))
    };
    repeat_while(look, Found::is_of_a_busy_machine)
}

/// Lets it look at these endpoints with these variables.
#[track_caller]
pub(crate) fn doctor_in(variables: &[(&str, &str)], endpoints: &str, arguments: &[&str]) -> Found {
    let look = || {
        let folder = tempfile::tempdir().unwrap();
        let arguments = [&["--json"], arguments].concat();
        let mut command = command(&folder, endpoints, &arguments);
        if endpoints.is_empty() {
            std::fs::remove_file(folder.path().join("endpoints.yml")).unwrap();
        }
        Found::read(&output_of(command.envs(variables.iter().copied())))
    };
    repeat_while(look, Found::is_of_a_busy_machine)
}

/// Looks again while this holds of what was found, which is told all the same
/// if it always does.
#[track_caller]
pub(crate) fn repeat_while<T>(look: impl Fn() -> T, holds: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let found = look();
        if !holds(&found) || begun.elapsed() >= FOR_EVER {
            return found;
        }
    }
}

/// A `lock_store` block that has nothing wrong, and more.
pub(crate) fn redis(url: &str, more: &str) -> String {
    format!("lock_store:\n  type: redis\n  fallback: none\n  url: {url}\n{more}")
}

/// A line of a block, with a path.
pub(crate) fn line(key: &str, path: impl AsRef<Path>) -> String {
    format!("  {key}: {}\n", path.as_ref().display())
}

impl Found {
    #[track_caller]
    fn read(output: &Output) -> Self {
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout);
        for text in [&said, &text] {
            assert!(!text.contains(SECRET), "{text}");
        }
        assert_eq!(said, "");
        Self {
            code: output.status.code(),
            lines: serde_json::from_str(&text).unwrap(),
        }
    }

    /// The finding of a check.
    #[track_caller]
    pub(crate) fn of(&self, check: &str) -> &Value {
        let mut lines = self.lines.iter().filter(|line| line["check"] == check);
        let line = lines.next();
        assert!(lines.next().is_none(), "{check} twice in {:#?}", self.lines);
        line.unwrap_or_else(|| panic!("no {check} in {:#?}", self.lines))
    }

    /// The checks that found this.
    pub(crate) fn with(&self, status: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line["status"] == status);
        lines.map(|line| line["check"].as_str().unwrap()).collect()
    }

    /// Whether there is a warning that comes of the load of this machine:
    /// answers were slow to come, or calls, although they are heard.
    fn is_of_a_busy_machine(&self) -> bool {
        let warns = |check| self.with("warning").contains(&check);
        warns("round_trip") || warns("hand_off") && !warns("rights")
    }

    /// Asserts that this check failed, and no other one, and that it says so.
    #[track_caller]
    pub(crate) fn fails(&self, check: &str, texts: &[&str]) {
        assert_eq!(self.with("failure"), [check], "{:#?}", self.lines);
        assert_eq!(self.code, Some(2));
        self.says(check, "failure", texts);
    }

    /// Asserts that this check warns, no other one does, and none failed.
    #[track_caller]
    pub(crate) fn warns(&self, check: &str, texts: &[&str]) {
        assert_eq!(self.with("warning"), [check], "{:#?}", self.lines);
        assert_eq!(self.with("failure"), [""; 0], "{:#?}", self.lines);
        assert_eq!(self.code, Some(1));
        self.says(check, "warning", texts);
    }

    /// Asserts that there is nothing to be done.
    #[track_caller]
    pub(crate) fn is_well(&self) {
        let all = self.lines.len();
        assert_eq!(self.with("ok").len(), all, "{:#?}", self.lines);
        assert_eq!(self.code, Some(0));
    }

    /// Asserts what a check says, with its remedy.
    #[track_caller]
    pub(crate) fn says(&self, check: &str, status: &str, texts: &[&str]) {
        let line = self.of(check);
        assert_eq!(line["status"], status, "{line:#}");
        let remedy = line["remedy"].as_str();
        assert_eq!(
            remedy.is_some(),
            ["warning", "failure"].contains(&status),
            "{line:#}"
        );
        let said = format!(
            "{} {}",
            line["message"].as_str().unwrap(),
            remedy.unwrap_or_default()
        );
        for text in texts {
            assert!(said.contains(text), "{text:?} in {line:#}");
        }
    }

    /// Asserts that these were not looked at because of another.
    #[track_caller]
    pub(crate) fn skips(&self, checks: &[&str], because: &str) {
        for check in checks {
            self.says(check, "skipped", &[&format!("needs `{because}`")]);
        }
    }
}
