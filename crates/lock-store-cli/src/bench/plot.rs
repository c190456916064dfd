//! The results as a picture for a report.
//!
//! Written by hand: what a library of charts draws from these figures needs as
//! many lines to be told, and looks worse in print.

mod axis;
mod latency;
mod svg;
mod throughput;

use self::svg::{Anchor, Style, Svg};
use super::results::Results;
use super::table::{rows, settings};
use super::text::{count, rounded, whole};

/// Size of the picture, without the distributions.
const WIDTH: f64 = 960.0;
/// Where panels begin and end.
pub(super) const LEFT: f64 = 112.0;
pub(super) const RIGHT: f64 = WIDTH - 32.0;
/// Where titles begin, and the middle of what is read from below.
pub(super) const MARGIN: f64 = 32.0;
pub(super) const UPRIGHT: f64 = 42.0;

const INK: &str = "#1f2933";
const GREY: &str = "#5b6773";
const LIGHT: &str = "#dfe4ea";
const RED: &str = "#b3261e";

/// One for each distribution, apart also for those who do not see all colours.
const COLOURS: [&str; 4] = ["#8a94a0", "#56a3d9", "#0b5fa5", "#d4711a"];

pub(super) fn draw(results: &Results) -> String {
    let rows = rows(results);
    // A store in memory has no round trip; colours stay with what they mean.
    let colours = &COLOURS[usize::from(results.round_trips.is_empty())..];
    let is_blemished = results.faults.total() > 0 || results.interrupted.is_some();
    let top = if is_blemished { 126.0 } else { 108.0 };
    let throughput = top + latency::height(rows.len()) + 30.0;
    let height = throughput + throughput::HEIGHT + 28.0;
    let mut svg = Svg::new(WIDTH, height, &title(results));

    let bold = Style::new(22.0, INK).bold();
    svg.text(MARGIN, 42.0, bold, Anchor::Start, &title(results));
    let style = Style::new(13.0, GREY);
    let place = format!(
        "{} – lock-store {}",
        results.place,
        env!("CARGO_PKG_VERSION")
    );
    svg.text(MARGIN, 65.0, style, Anchor::Start, &shortened(&place, 130));
    svg.text(MARGIN, 84.0, style, Anchor::Start, &settings(results));
    if is_blemished {
        svg.text(
            MARGIN,
            103.0,
            Style::new(13.0, RED).bold(),
            Anchor::Start,
            &blemishes(results),
        );
    }
    latency::draw(&mut svg, top, &rows, colours);
    throughput::draw(&mut svg, throughput, results, COLOURS[2]);
    svg.finish()
}

fn title(results: &Results) -> String {
    let tasks = count(results.plan.all_tasks(), "task", "tasks");
    let rate = rounded(results.load.per_second());
    format!("{rate} locks and releases per second with {tasks}")
}

/// What must not be overlooked.
fn blemishes(results: &Results) -> String {
    let mut said = Vec::new();
    if results.interrupted.is_some() {
        said.push("interrupted: not all was measured".to_owned());
    }
    let kinds = results
        .faults
        .iter()
        .map(|(kind, fault)| format!("{} {}", whole(fault.count), kind.replace('_', " ")));
    let kinds: Vec<_> = kinds.collect();
    if !kinds.is_empty() {
        said.push(format!("errors: {}", kinds.join(", ")));
    }
    said.join("; ")
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most - 1).collect();
    format!("{begin}…")
}
