//! Standard error, shared by the progress bar, what is said to the user, and
//! the log; and standard output, where that is the same terminal. None of them
//! writes over another.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;

use crate::patient::Patient;
use indicatif::{ProgressBar, ProgressDrawTarget};

/// A handle on standard error.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    bar: ProgressBar,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { bar }
    }

    pub(crate) fn is_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// Whether standard error may have colours.
    pub(crate) fn has_colour() -> bool {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::is_terminal() && !unwanted
    }

    /// The progress bar, hidden until it is given something to draw on.
    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Writes a question, which the answer follows.
    pub(crate) fn ask(&self, question: fmt::Arguments<'_>) {
        // Nobody could be told that nobody can be told.
        let _ = (&mut &*self).write_all(question.to_string().as_bytes());
    }

    /// Writes a line.
    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        let text = format!("{line}\n");
        // Nobody could be told that nobody can be told.
        let _ = (&mut &*self).write_all(text.as_bytes());
    }
}

impl Write for &Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = Patient(io::stderr());
        self.bar.suspend(|| stderr.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Standard output, without a buffer of its own.
pub(crate) struct Results {
    file: Patient<File>,
    /// What is to be kept off while a line is written.
    screen: Option<Screen>,
}

impl Results {
    pub(crate) fn open(screen: &Screen) -> io::Result<Self> {
        let stdout = io::stdout();
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        Ok(Self {
            file: Patient(file),
            // A pipe may be full for long, and the bar would stand still.
            screen: stdout.is_terminal().then(|| screen.clone()),
        })
    }
}

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.screen {
            Some(screen) => screen.bar().suspend(|| self.file.write(bytes)),
            None => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
