//! Texts, times and tables for people.

use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

use anyhow::Context as _;

/// Text from elsewhere, in one line: what would move the cursor, or change how
/// the rest is shown, is escaped.
pub(crate) struct Plain<'t>(pub(crate) &'t str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_unseen(character) || character == '\\' {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Controls, and what changes the direction of text or has no width.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// A span of time: `0.2 s`, `12.3 s`, `4 min`, `3 h`, `2 d`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0..100 => format!("{:.1} s", self.0.as_secs_f64()),
            100..6000 => format!("{} min", seconds / 60),
            6000..172_800 => format!("{} h", seconds / 3600),
            _ => format!("{} d", seconds / 86_400),
        };
        f.pad(&text)
    }
}

/// A few things: `1 ticket`, `2 tickets`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// Lines of aligned columns. Numbers stand at the right, texts at the left.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    right: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A column whose header begins with `>` stands at the right.
    pub(crate) fn new(headers: [&str; N]) -> Self {
        Self {
            right: headers.map(|header| header.starts_with('>')),
            rows: vec![headers.map(|header| header.trim_start_matches('>').to_owned())],
        }
    }

    pub(crate) fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(widths).zip(self.right) {
                if right {
                    write!(line, "{cell:>width$}  ")?;
                } else {
                    write!(line, "{cell:<width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Whether there is somebody who reads what was written: whoever closed the
/// pipe has seen enough.
pub(crate) fn unless_closed(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let text = "ä b\n\u{1b}[2J\u{202e}\\";
        assert_eq!(Plain(text).to_string(), r"ä b\n\u{1b}[2J\u{202e}\\");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (12.34, "12.3 s"),
            (99.9, "99.9 s"),
            (250.0, "4 min"),
            (7300.0, "2 h"),
            (400_000.0, "4 d"),
        ] {
            assert_eq!(Span(Duration::from_secs_f64(seconds)).to_string(), text);
        }
        assert_eq!(format!("{:>7}|", Span(Duration::from_secs(1))), "  1.0 s|");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([">N", "NAME", "END"]);
        table.add(["10".into(), "ä".into(), "x".into()]);
        table.add(["1".into(), "anna".into(), String::new()]);
        assert_eq!(table.to_string(), " N  NAME  END\n10  ä     x\n 1  anna\n");
    }

    #[test]
    fn one_is_one() {
        assert_eq!(count(1, "ticket"), "1 ticket");
        assert_eq!(count(0, "ticket"), "0 tickets");
    }
}
