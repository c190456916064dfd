//! What a check found, and how it is told.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::screen::{Results, Screen};

/// How it stands. The order is that of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Skipped,
    Ok,
    Warning,
    Failure,
}

/// What was found by one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: Status,
    pub(super) message: String,
    /// What to do, if there is something to be done.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self::new(Status::Ok, message, None)
    }

    pub(super) fn skipped(message: impl Into<String>) -> Self {
        Self::new(Status::Skipped, message, None)
    }

    pub(super) fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Warning, message, Some(remedy.into()))
    }

    pub(super) fn failure(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Failure, message, Some(remedy.into()))
    }

    fn new(status: Status, message: impl Into<String>, remedy: Option<String>) -> Self {
        let message = message.into();
        Self {
            status,
            message,
            remedy,
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.status == Status::Failure
    }

    /// The same, but no reason to stop.
    pub(super) fn at_most_warning(mut self) -> Self {
        self.status = self.status.min(Status::Warning);
        self
    }

    /// One for several: what is worst, or all if all is well.
    pub(super) fn worst_of(findings: Vec<Self>) -> Self {
        let worst = findings.iter().map(|finding| finding.status).max();
        let worst = worst.unwrap_or(Status::Ok);
        let mut told: Vec<String> = Vec::new();
        let mut remedies: Vec<String> = Vec::new();
        for finding in findings {
            // What is well is of no interest beside what is not.
            let is_told = finding.status == worst || finding.status >= Status::Warning;
            if is_told && !told.contains(&finding.message) {
                told.push(finding.message);
            }
            remedies.extend(finding.remedy.filter(|it| !remedies.contains(it)));
        }
        let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
        Self::new(worst, told.join("; "), remedy)
    }
}

#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    #[serde(flatten)]
    told: Told,
}

#[derive(Debug, Serialize)]
struct Told {
    status: Status,
    message: String,
    remedy: Option<String>,
}

/// Everything that was found, told as it comes, or at the end as JSON.
pub(super) struct Report {
    lines: Vec<Line>,
    json: bool,
    colour: bool,
    out: Results,
}

/// What is behind a check's name: the longest is `client_certificate`.
const NAME: usize = 18;

impl Report {
    pub(super) fn new(json: bool, screen: &Screen) -> io::Result<Self> {
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self {
            lines: Vec::new(),
            json,
            colour: io::stdout().is_terminal() && !wants_none,
            out: Results::open(screen)?,
        })
    }

    pub(super) fn add(&mut self, check: &'static str, finding: Finding) -> io::Result<()> {
        let told = Told {
            status: finding.status,
            message: finding.message,
            remedy: finding.remedy,
        };
        let line = Line { check, told };
        if !self.json {
            let text = for_people(&line, self.colour);
            self.out.write_all(text.as_bytes())?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// Whether it was found to be a failure.
    pub(super) fn has_failed(&self, check: &str) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.check == check && line.told.status == Status::Failure)
    }

    pub(super) fn count(&self, status: Status) -> usize {
        let all = self.lines.iter();
        all.filter(|line| line.told.status == status).count()
    }

    /// Ends it; returns the worst.
    pub(super) fn end(mut self) -> io::Result<Status> {
        if self.json {
            let mut text = serde_json::to_string_pretty(&self.lines)?;
            text.push('\n');
            self.out.write_all(text.as_bytes())?;
        }
        let worst = self.lines.iter().map(|line| line.told.status).max();
        Ok(worst.unwrap_or(Status::Ok))
    }
}

fn for_people(line: &Line, colour: bool) -> String {
    let Told {
        status,
        message,
        remedy,
    } = &line.told;
    let (sign, paint) = match status {
        Status::Skipped => ("skipped", "2"),
        Status::Ok => ("ok", "32"),
        Status::Warning => ("warning", "33"),
        Status::Failure => ("failure", "1;31"),
    };
    let mut text = if colour {
        format!("\x1b[{paint}m{sign:<7}\x1b[0m  ")
    } else {
        format!("{sign:<7}  ")
    };
    // Writing into a text does not fail.
    let _ = write!(text, "{:<NAME$}  {}", line.check, escaped(message));
    if let Some(remedy) = remedy {
        let _ = write!(text, "; {}", escaped(remedy));
    }
    text.push('\n');
    text
}

/// Texts of servers must not steer the terminal.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worst_is_told() {
        let several = vec![
            Finding::ok("a is well"),
            Finding::failure("b is ill", "cure b"),
            Finding::warning("c is pale", "cure c"),
            Finding::failure("b is ill", "cure b"),
        ];
        let worst = Finding::failure("b is ill; c is pale", "cure b; cure c");
        assert_eq!(Finding::worst_of(several), worst);
        let well = vec![Finding::ok("a is well"), Finding::ok("b is well")];
        assert_eq!(Finding::worst_of(well), Finding::ok("a is well; b is well"));
    }

    #[test]
    fn a_line_has_its_remedy_and_no_control_characters() {
        let told = Told {
            status: Status::Warning,
            message: "a\x1b[2J\nb".into(),
            remedy: Some("mend it".into()),
        };
        let check = "dns";
        let line = for_people(&Line { check, told }, false);
        let name = format!("{check:<NAME$}");
        let expected = format!("warning  {name}  a\\u{{1b}}[2J\\nb; mend it\n");
        assert_eq!(line, expected);
    }
}
