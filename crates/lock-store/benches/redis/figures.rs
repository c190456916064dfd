//! Figures of several rounds, and the tables that are made of them.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

/// A kind of figures, of which there is one for each of some numbers.
#[derive(Clone, Copy)]
pub(crate) struct Kind(pub(crate) &'static str);

impl Kind {
    pub(crate) fn of(self, which: impl Display) -> String {
        format!("{}, {which}", self.0)
    }
}

pub(crate) fn p99_of(what: &str) -> String {
    format!("{what}, p99")
}

/// What was measured, of whom, in each round.
#[derive(Default)]
pub(crate) struct Figures(HashMap<(String, String), Vec<f64>>);

impl Figures {
    pub(crate) fn add(&mut self, what: impl Display, who: impl Display, figure: f64) {
        let key = (what.to_string(), who.to_string());
        self.0.entry(key).or_default().push(figure);
    }

    /// The median and the 99th percentile of a round, in microseconds.
    pub(crate) fn add_times(&mut self, what: &str, who: impl Display, mut times: Vec<Duration>) {
        times.sort_unstable();
        let median = quantile(&times, 0.5).as_secs_f64() * 1e6;
        let p99 = quantile(&times, 0.99).as_secs_f64() * 1e6;
        self.add(what, &who, median);
        self.add(p99_of(what), who, p99);
    }

    /// The median of the rounds, if there were any.
    pub(crate) fn median(&self, what: impl Display, who: impl Display) -> Option<f64> {
        Some(median(self.rounds(what, who)?.to_vec()))
    }

    /// The median of what the figures of one round are to each other, as a
    /// machine's noise is in both.
    pub(crate) fn ratio(
        &self,
        (what, who): (impl Display, impl Display),
        (other_what, other): (impl Display, impl Display),
    ) -> Option<f64> {
        let ours = self.rounds(what, who)?;
        let theirs = self.rounds(other_what, other)?;
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Some(median(ratios.collect()))
    }

    fn rounds(&self, what: impl Display, who: impl Display) -> Option<&[f64]> {
        let rounds = self.0.get(&(what.to_string(), who.to_string()))?;
        Some(rounds)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    }
}

/// Of what is sorted.
fn quantile(times: &[Duration], share: f64) -> Duration {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let index = (times.len() as f64 * share) as usize;
    times[index.min(times.len() - 1)]
}

/// A figure as a table has it: three digits that say something, or all before
/// the point.
pub(crate) fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if value.is_nan() => "–".into(),
        Some(value) if value >= 99.95 => separated(&format!("{value:.0}")),
        Some(value) if value >= 9.995 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

pub(crate) fn thousands(number: usize) -> String {
    separated(&number.to_string())
}

/// The digits of a whole number, in threes.
fn separated(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table of Markdown: a head, then a row at a time. The first column is text,
/// all others are figures.
pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("\n**{title}**\n\n| {} |", columns.join(" | "));
    println!("|---|{}", "---:|".repeat(columns.len() - 1));
}

pub(crate) fn row(cells: &[impl AsRef<str>]) {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {} |", cells.join(" | "));
}
