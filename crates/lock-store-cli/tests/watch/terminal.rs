//! A terminal of a test: what is written to it is seen as a screen.

#![allow(dead_code)] // not every test file needs all of it
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

const FOR_EVER: Duration = Duration::from_secs(120);

/// A terminal with a program in it.
pub(crate) struct Terminal {
    /// Kept, so that the screen is still there when the program has ended.
    slave: OwnedFd,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
    child: std::process::Child,
    before: Termios,
}

impl Terminal {
    /// Starts a program in a terminal of this size (columns and rows).
    pub(crate) fn start((columns, rows): (u16, u16), program: &Command) -> Self {
        let pty = openpty(&size(columns, rows), None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let before = tcgetattr(&pty.slave).unwrap();
        // Gives it the terminal as its own, as a terminal emulator does, and
        // becomes the program, so that the process is that one. No signal is
        // ignored, whatever this test was started from.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=HUP,INT,QUIT", "setsid", "--ctty"])
            .arg(program.get_program())
            .args(program.get_args())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        let child = command.spawn().unwrap();
        let (rows, columns) = (non_zero(rows), non_zero(columns));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = File::from(pty.master.try_clone().unwrap());
        let seen = screen.clone();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut part) {
                seen.lock().unwrap().process(&part[..length]);
            }
        });
        Self {
            slave: pty.slave,
            keys: File::from(pty.master),
            screen,
            child,
            before,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().unwrap().screen())
    }

    /// The lines that are seen now.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.look(|screen| screen.contents().lines().map(str::to_owned).collect())
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&[String]) -> bool) {
        let begun = Instant::now();
        loop {
            let lines = self.lines();
            if is_so(&lines) {
                return;
            }
            assert!(
                begun.elapsed() < FOR_EVER,
                "waited in vain: {what}\n{}",
                lines.join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a text is seen.
    #[track_caller]
    pub(crate) fn until_shown(&self, text: &str) {
        self.until(text, |lines| lines.iter().any(|line| line.contains(text)));
    }

    /// Waits until a text is seen no more.
    #[track_caller]
    pub(crate) fn until_gone(&self, text: &str) {
        self.until(&format!("without {text}"), |lines| {
            !lines.iter().any(|line| line.contains(text))
        });
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let (rows_seen, columns_seen) = (non_zero(rows), non_zero(columns));
        let mut screen = self.screen.lock().unwrap();
        screen.set_size(rows_seen, columns_seen);
        drop(screen);
        let status = Command::new("stty")
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .stdin(Stdio::from(self.slave.try_clone().unwrap()))
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < FOR_EVER, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the terminal's modes are those that it had at the start.
    pub(crate) fn is_cooked(&self) -> bool {
        tcgetattr(&self.slave).unwrap() == self.before
    }

    /// Asserts that the terminal is as it was: modes, screen and cursor.
    #[track_caller]
    pub(crate) fn assert_restored(&self) {
        assert!(self.is_cooked(), "its modes were changed");
        // What was written last may still be under way.
        let begun = Instant::now();
        while !self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor()) {
            assert!(begun.elapsed() < FOR_EVER, "its screen was not left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn non_zero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}
