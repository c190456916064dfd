//! Runs the command, and reads what it wrote.

#![allow(dead_code)] // not every test file needs all of it
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for any machine; whoever waits as long has failed.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(120);

/// A folder in which the command runs, with its input and its output.
pub(crate) struct Place {
    folder: TempDir,
}

/// The command, running.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
}

/// What came of it.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes messages, given as conversation and text, into `input.jsonl`.
    pub(crate) fn messages<'m>(&self, messages: impl IntoIterator<Item = (&'m str, String)>) {
        let lines = messages
            .into_iter()
            .map(|(sender, text)| message(sender, &text));
        self.write("input.jsonl", lines.collect::<String>());
    }

    /// `lock-store process` with these arguments, not yet started.
    pub(crate) fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = bare(self, &["process"]);
        command.args(arguments);
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn start(&self, command: &mut Command) -> Running {
        Running {
            child: command.spawn().unwrap(),
            folder: self.folder.path().to_owned(),
        }
    }

    /// Runs it over `input.jsonl` to its end.
    pub(crate) fn process(&self, arguments: &[&str]) -> Ended {
        let arguments = ["input.jsonl"].iter().chain(arguments);
        self.start(&mut self.command(arguments)).ended()
    }

    /// Runs it over `input.jsonl`, with a shell script for each message.
    pub(crate) fn process_with(&self, options: &[&str], script: &str) -> Ended {
        let script = ["--", "sh", "-c", script];
        self.process(&[options, &script].concat())
    }
}

/// Undoes what tests inherit: `nohup`, and `&` in a script, have signals ignored.
const DEFAULT_SIGNALS: &[&str] = if cfg!(target_os = "linux") {
    &["env", "--default-signal=HUP,INT,QUIT"]
} else {
    &[]
};

/// A program with its arguments, for which no signal is ignored.
pub(crate) fn program(words: &[&str]) -> Command {
    let words = [DEFAULT_SIGNALS, words].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// `lock-store ARGUMENTS`, not yet started.
pub(crate) fn bare(place: &Place, arguments: &[&str]) -> Command {
    started_by(&[], place, arguments)
}

/// The same, started by another program that hands on its process.
pub(crate) fn started_by(starter: &[&str], place: &Place, arguments: &[&str]) -> Command {
    let lock_store = [env!("CARGO_BIN_EXE_lock-store")];
    let mut command = program(&[starter, &lock_store, arguments].concat());
    command
        .current_dir(&place.folder)
        .stdin(Stdio::null())
        .stdout(File::create(place.path("stdout")).unwrap())
        .stderr(File::create(place.path("stderr")).unwrap());
    for name in ["RUST_LOG", "TICKET_LOCK_LIFETIME", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let status = end_of(&mut self.child);
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap();
        Ended {
            status,
            stdout: read("stdout"),
            stderr: read("stderr"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits for its end, and sees to it if it never comes.
#[track_caller]
pub(crate) fn end_of(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > FOR_EVER {
            let _ = child.kill();
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end, and returns what it wrote.
#[track_caller]
pub(crate) fn output_of(command: &mut Command) -> Output {
    // Files take whatever comes, and nobody has to read meanwhile.
    let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    command
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap());
    let status = end_of(&mut command.spawn().unwrap());
    let read = |mut file: File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output {
        status,
        stdout: read(stdout),
        stderr: read(stderr),
    }
}

impl Ended {
    /// The results, if it ended with this exit code.
    #[track_caller]
    pub(crate) fn results(&self, code: i32) -> Vec<Value> {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Asserts the exit code and that each text was said on standard error.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} in {:?}", self.stderr);
        }
    }
}

/// The line of a message.
pub(crate) fn message(sender: &str, text: &str) -> String {
    format!(
        "{}\n",
        serde_json::json!({"sender": sender, "message": text})
    )
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < FOR_EVER, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(crate) fn until_exists(path: impl AsRef<Path>) {
    let path = path.as_ref();
    until(&path.display().to_string(), || path.exists());
}

/// Writes to the standard input of a command that was started with a pipe.
pub(crate) fn write_to(running: &mut Running, text: &str) {
    let stdin = running.child().stdin.as_mut().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
}

/// Asserts that `seq` of the results of each conversation rises, and that
/// every message from 0 to `count` has exactly one result.
#[track_caller]
pub(crate) fn assert_each_once_in_order(results: &[Value], count: u64) {
    let mut last = std::collections::HashMap::new();
    let mut seqs: Vec<u64> = Vec::new();
    for result in results {
        let seq = result["seq"].as_u64().unwrap();
        let sender = result["sender"].as_str().unwrap();
        let before = last.insert(sender, seq);
        assert!(before < Some(seq), "{sender}: {seq} after {before:?}");
        seqs.push(seq);
    }
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(0..count), "not each message once");
}

/// A script that waits until a file exists, and fails if it never does.
pub(crate) fn wait_for(file: &str) -> String {
    format!(
        "tries=0; until [ -e {file} ]; do tries=$((tries+1)); [ $tries -lt 6000 ] || exit 99; \
         sleep 0.02; done"
    )
}
