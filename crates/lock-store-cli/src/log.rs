//! The log on standard error.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::screen::Screen;

/// How many bytes are held back at most; the first ones say how it began.
const MOST_HELD: usize = 1 << 20;
/// How it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// A handle on the log.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    screen: Screen,
    /// What is held back, if anything is to be.
    held: Arc<Mutex<Option<Vec<u8>>>>,
    may_hold: bool,
    format: Format,
}

/// Whatever is logged while this lives is held back, and forgotten with it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'l>(&'l Log);

impl Log {
    pub(crate) fn start(screen: &Screen, verbose: u8, format: Format) -> Self {
        let default = match verbose {
            0 => "warn",
            1 => "info",
            _ => "debug",
        };
        let from_environment = EnvFilter::try_from_default_env();
        let log = Self {
            screen: screen.clone(),
            held: Arc::default(),
            // Whoever asks for more wants it when it happens.
            may_hold: verbose == 0 && from_environment.is_err(),
            format,
        };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(from_environment.unwrap_or_else(|_| EnvFilter::new(default)))
            .with_writer(log.clone());
        match format {
            Format::Text => lines.with_ansi(Screen::has_colour()).init(),
            Format::Json => lines.json().init(),
        }
        log
    }

    /// Says an error of ours, whatever is logged.
    pub(crate) fn error(&self, text: fmt::Arguments<'_>) {
        match self.format {
            Format::Text => self.screen.say(format_args!("error: {text}")),
            Format::Json => {
                let lines = tracing_subscriber::fmt().json().with_writer(self.clone());
                tracing::subscriber::with_default(lines.finish(), || {
                    tracing::error!(target: "lock_store", "{text}");
                });
            }
        }
    }

    /// For what may end in an error that says it all.
    pub(crate) fn hold(&self) -> Held<'_> {
        if self.may_hold {
            *self.held() = Some(Vec::new());
        }
        Held(self)
    }

    /// For what has the screen to itself.
    pub(crate) fn hold_all(&self) -> Held<'_> {
        *self.held() = Some(Vec::new());
        Held(self)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held<'_> {
    /// Shows what was held back.
    pub(crate) fn show(self) {
        let held = self.0.held().take().unwrap_or_default();
        // Nobody could be told that nobody can be told.
        let _ = (&self.0.screen).write_all(&held);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held().take();
    }
}

impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut *self.held() {
            if held.len() < MOST_HELD {
                held.extend_from_slice(bytes);
            }
            return Ok(bytes.len());
        }
        (&self.screen).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.screen).flush()
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
