//! Figures as lines, where there is no terminal: `name=value`, or JSON.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::looker::{Looker, News};
use super::model::{Figures, Model};
use super::pen::Pen;
use super::signals::{self, Signals, Wanted};
use crate::args::WatchArgs;
use crate::process::interrupt::exit_code;
use crate::screen::{Results, Screen};

/// A line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time_seconds: f64,
    connected: bool,
    #[serde(flatten)]
    figures: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Shown {
    conversations: usize,
    waiting: u64,
    dead: usize,
    damaged: usize,
    longest_queue: u64,
    oldest_wait_seconds: f64,
    acquired_per_second: Option<f64>,
    handed_off_per_second: Option<f64>,
    wait_median_seconds: Option<f64>,
    wait_p99_seconds: Option<f64>,
    survey_seconds: f64,
    interval_seconds: Option<f64>,
}

impl From<&Figures> for Shown {
    fn from(figures: &Figures) -> Self {
        let seconds = |duration: Duration| rounded(duration.as_secs_f64(), 1e6);
        let rates = figures.rates;
        Self {
            conversations: figures.conversations,
            waiting: figures.waiting,
            dead: figures.dead,
            damaged: figures.damaged,
            longest_queue: figures.longest_queue,
            oldest_wait_seconds: seconds(figures.oldest_wait),
            acquired_per_second: rates.map(|rates| rounded(rates.acquired, 1e3)),
            handed_off_per_second: rates.map(|rates| rounded(rates.handed_off, 1e3)),
            wait_median_seconds: figures.wait_median.map(seconds),
            wait_p99_seconds: figures.wait_p99.map(seconds),
            survey_seconds: seconds(figures.took),
            interval_seconds: figures.interval.map(seconds),
        }
    }
}

fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// Writes a line after each look, until a signal, the end of the output or the
/// number of looks ends it: with an exit code.
pub(crate) async fn run(
    mut looker: Looker,
    args: &WatchArgs,
    first: News,
    screen: &Screen,
) -> anyhow::Result<u8> {
    let mut signals = Signals::listen().context("signals cannot be listened to")?;
    let output = Results::open(screen).context("standard output cannot be used")?;
    let mut pen = Pen::start(output).context("no thread to write")?;
    let mut looks = args.count;
    let mut model = Model::default();
    let mut news = first;
    loop {
        let is_look = matches!(news, News::Look(_));
        match news {
            News::Look(look) => model.see(look),
            News::Away(why) => model.away(why),
            News::Queue(..) => {}
        }
        pen.begin(line(&model, args.json)).await;
        let written = loop {
            tokio::select! {
                written = pen.written() => break written,
                wanted = signals.next() => if let Some(code) = obey(&wanted)? {
                    return Ok(code);
                },
            }
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            written => written.context("the output cannot be written")?,
        }
        if let Some(looks) = looks.as_mut().filter(|_| is_look) {
            *looks -= 1;
            if *looks == 0 {
                return Ok(0);
            }
        }
        news = loop {
            tokio::select! {
                news = looker.next() => break news?,
                wanted = signals.next() => if let Some(code) = obey(&wanted)? {
                    return Ok(code);
                },
            }
        };
    }
}

/// Does what a signal asks for; the exit code if that is the end.
fn obey(wanted: &Wanted) -> anyhow::Result<Option<u8>> {
    match wanted {
        Wanted::End(signal) => return Ok(Some(exit_code(*signal))),
        Wanted::Suspend => signals::stop_here().context("it cannot be suspended")?,
        Wanted::Continue => {}
    }
    Ok(None)
}

fn line(model: &Model, json: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time_seconds = rounded(now.unwrap_or_default().as_secs_f64(), 1e3);
    let error = model.trouble();
    let line = Line {
        time_seconds,
        connected: error.is_none(),
        figures: error.is_none().then(|| model.figures().into()),
        error,
    };
    // Neither maps with other keys than texts nor anything that may fail.
    let json_text = serde_json::to_string(&line).unwrap_or_default();
    if json {
        format!("{json_text}\n")
    } else {
        format!("{}\n", pairs(&json_text))
    }
}

/// `name=value`, without what is not known; texts in quotes.
fn pairs(json: &str) -> String {
    let fields: IndexMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    let known = fields.iter().filter(|(_, value)| !value.is_null());
    let pairs: Vec<_> = known
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{lock, look};

    #[test]
    fn a_line_has_what_is_known() {
        let mut model = Model::default();
        model.see(look(0.0, vec![lock("a", 0, 1, 3)]));
        let first = line(&model, false);
        assert!(first.starts_with("time_seconds="), "{first}");
        let rest = " connected=true conversations=1 waiting=3 dead=0 damaged=0 longest_queue=3 \
                    oldest_wait_seconds=0.5 survey_seconds=0.003\n";
        assert!(first.ends_with(rest), "{first}");
        model.see(look(2.0, vec![lock("a", 1, 2, 3)]));
        let second = line(&model, false);
        assert!(second.contains(" acquired_per_second=0.5 "), "{second}");
        assert!(second.ends_with(" interval_seconds=2.0\n"), "{second}");
    }

    #[test]
    fn json_has_null_for_what_is_not_known() {
        let mut model = Model::default();
        model.see(look(0.0, vec![]));
        let value: Value = serde_json::from_str(&line(&model, true)).unwrap();
        assert_eq!(value["acquired_per_second"], Value::Null);
        assert_eq!(value.as_object().unwrap().len(), 14);
    }

    #[test]
    fn old_figures_are_not_shown_as_new() {
        let mut model = Model::default();
        model.see(look(0.0, vec![]));
        model.away("it is \"gone\"".to_owned());
        let text = line(&model, false);
        assert!(
            text.ends_with(" connected=false error=\"it is \\\"gone\\\"\"\n"),
            "{text}"
        );
    }
}
