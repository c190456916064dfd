//! One process of `redis-server`, in its folder: its start, its signals, its
//! end.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::until;

/// Names the binary.
const BINARY: &str = "LOCK_STORE_REDIS_SERVER";

/// The files that are no data: a node of a cluster stays the one that it is.
const NO_DATA: [&str; 4] = [CONFIG, LOG, SOCKET, "nodes.conf"];
const CONFIG: &str = "redis.conf";
const LOG: &str = "log";
const SOCKET: &str = "socket";

#[derive(Debug)]
pub(crate) struct Process {
    folder: TempDir,
    is_sentinel: bool,
    child: Mutex<Option<Child>>,
    is_frozen: AtomicBool,
}

impl Process {
    /// Not yet started.
    pub(crate) fn new(is_sentinel: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir();
        let process = Self {
            folder: folder.expect("a temporary folder"),
            is_sentinel,
            child: Mutex::new(None),
            is_frozen: AtomicBool::new(false),
        };
        let socket = process.socket();
        let length = socket.as_os_str().len();
        assert!(length < 100, "too long for a socket: {}", socket.display());
        process
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The path of the socket at which it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.folder.path().join(CONFIG), text).unwrap();
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        let mut child = self.child();
        assert!(!is_running(&mut child), "it is running already");
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.folder.path().join(LOG))
            .unwrap();
        let binary = std::env::var_os(BINARY).filter(|name| !name.is_empty());
        let binary = binary.unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(&binary);
        command
            .arg(self.folder.path().join(CONFIG))
            .args(self.is_sentinel.then_some("--sentinel"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *child = match command.spawn() {
            Ok(child) => {
                self.is_frozen.store(false, Ordering::Relaxed);
                Some(child)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => panic!(
                "there is no {}: `apt-get install redis-server`, or let {BINARY} name one",
                binary.display()
            ),
            Err(error) => panic!("{} cannot be started: {error}", binary.display()),
        };
    }

    pub(crate) fn is_running(&self) -> bool {
        is_running(&mut self.child())
    }

    /// Whether it runs and is not frozen.
    pub(crate) fn is_awake(&self) -> bool {
        self.is_running() && !self.is_frozen.load(Ordering::Relaxed)
    }

    #[track_caller]
    pub(crate) fn id(&self) -> u32 {
        let child = self.child();
        child.as_ref().expect("a running server").id()
    }

    /// Stops it where it is, and waits until it stands still.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        let mut child = self.child();
        assert!(is_running(&mut child), "the server does not run");
        let pid = pid(child.as_ref().unwrap());
        signal::kill(pid, Signal::SIGSTOP).unwrap();
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED));
        let stands = matches!(status, Ok(WaitStatus::Stopped(..)));
        assert!(stands, "the server does not freeze: {status:?}");
        self.is_frozen.store(true, Ordering::Relaxed);
    }

    /// Lets it go on.
    #[track_caller]
    pub(crate) fn thaw(&self) {
        let mut child = self.child();
        assert!(is_running(&mut child), "the server does not run");
        signal::kill(pid(child.as_ref().unwrap()), Signal::SIGCONT).unwrap();
        self.is_frozen.store(false, Ordering::Relaxed);
    }

    /// Ends it at once. That needs no thawing: a frozen one does nothing more.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        if is_running(&mut child)
            && let Some(child) = child.as_mut()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        *child = None;
    }

    /// Lets it end in an orderly way.
    #[track_caller]
    pub(crate) fn stop(&self) {
        let mut child = self.child();
        if is_running(&mut child) {
            let pid = pid(child.as_ref().unwrap());
            signal::kill(pid, Signal::SIGTERM).unwrap();
            signal::kill(pid, Signal::SIGCONT).unwrap();
            until("the server stops", || !is_running(&mut child));
        }
        *child = None;
    }

    /// Deletes its data.
    pub(crate) fn forget(&self) {
        for entry in fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            if NO_DATA.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// One test's panic is not another's.
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn is_running(child: &mut Option<Child>) -> bool {
    child
        .as_mut()
        .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}
