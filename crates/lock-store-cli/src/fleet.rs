//! What the commands that look after locks have in common.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use anyhow::Context as _;
use lock_store::Ticket;
use serde::Serialize;

use crate::args::Connection;
use crate::connection::Fleet;
use crate::log::Log;
use crate::people::unless_closed;
use crate::screen::{Results, Screen};

/// It is so, or was done.
pub(crate) const DONE: u8 = 0;
/// What was asked about is not so, or could not be done.
pub(crate) const NOT_SO: u8 = 1;

/// Connects; what is logged of a failure is in its error as well.
pub(crate) async fn open(connection: &Connection, task: &str, log: &Log) -> anyhow::Result<Fleet> {
    let held = log.hold();
    let fleet = Fleet::open(connection, task).await?;
    held.show();
    Ok(fleet)
}

/// The owner of a ticket; `-` for one that is known by its number alone.
pub(crate) fn owner(ticket: &Ticket) -> String {
    let owner = ticket.owner;
    owner.map_or_else(|| "-".to_owned(), |owner| owner.to_string())
}

/// The results, on standard output, until nobody reads them any more.
pub(crate) struct Output {
    file: BufWriter<Results>,
    each_at_once: bool,
}

impl Output {
    pub(crate) fn open(screen: &Screen) -> anyhow::Result<Self> {
        let results = Results::open(screen).context("standard output cannot be used")?;
        Ok(Self {
            file: BufWriter::with_capacity(64 << 10, results),
            each_at_once: io::stdout().is_terminal(),
        })
    }

    /// Writes a line; `false` when nobody reads it.
    pub(crate) fn line(&mut self, line: std::fmt::Arguments<'_>) -> anyhow::Result<bool> {
        let written = writeln!(self.file, "{line}");
        let written = match written {
            Ok(()) if self.each_at_once => self.file.flush(),
            written => written,
        };
        unless_closed(written)
    }

    /// Writes a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<bool> {
        let text = serde_json::to_string(value)?;
        self.line(format_args!("{text}"))
    }

    /// Whether all was read, as far as can be told.
    pub(crate) fn end(mut self) -> anyhow::Result<bool> {
        let is_read = unless_closed(self.file.flush())?;
        // What could not be written stays in it, and is not tried again.
        drop(self.file.into_parts());
        Ok(is_read)
    }
}
