//! How long things took: a distribution below the other, on one axis.

use super::axis::Logarithmic;
use super::svg::{Anchor, Style, Svg};
use super::{GREY, INK, LEFT, LIGHT, MARGIN, RIGHT, UPRIGHT};
use crate::bench::bins::bins;
use crate::bench::text::time;
use crate::bench::times::Times;

/// Of a distribution: its name, and its bars.
const HEAD: f64 = 42.0;
const BARS: f64 = 52.0;
const ROW: f64 = HEAD + BARS + 8.0;
const TITLE: f64 = 20.0;
const AXIS: f64 = 44.0;

/// About so many bars there are from the left to the right.
const ACROSS: f64 = 140.0;

const MARKS: [(f64, &str, &str); 3] = [(0.5, "p50", ""), (0.9, "p90", "5 3"), (0.99, "p99", "2 3")];

pub(super) fn height(rows: usize) -> f64 {
    #[allow(clippy::cast_precision_loss)] // there are four
    let rows = rows as f64;
    TITLE + rows * ROW + AXIS
}

pub(super) fn draw(svg: &mut Svg, top: f64, rows: &[(String, &Times)], colours: &[&str]) {
    let title = Style::new(15.0, INK).bold();
    svg.text(MARGIN, top + TITLE - 6.0, title, Anchor::Start, "Latency");
    let seen = rows.iter().filter(|(_, times)| !times.is_empty());
    let least = seen
        .clone()
        .map(|(_, times)| times.min())
        .min()
        .unwrap_or(1_000);
    let most = seen
        .map(|(_, times)| times.max())
        .max()
        .unwrap_or(1_000_000);
    let axis = Logarithmic::new((least / 20 * 19, most / 20 * 21), (LEFT, RIGHT));
    let bottom = top + height(rows.len()) - AXIS;

    for (tick, named) in axis.ticks() {
        let x = axis.place(tick);
        if named {
            svg.line((x, top + TITLE + 8.0), (x, bottom), (LIGHT, 1.0), "");
            let text = time(tick).replace(".00", "").replace(".0 ", " ");
            svg.text(
                x,
                bottom + 18.0,
                Style::new(12.0, GREY),
                Anchor::Middle,
                &text,
            );
        }
        svg.line((x, bottom), (x, bottom + 5.0), (GREY, 1.0), "");
    }
    let mut y = top + TITLE;
    for ((name, times), colour) in rows.iter().zip(colours) {
        row(svg, y, name, times, axis, colour);
        y += ROW;
    }
    svg.line((LEFT, bottom), (RIGHT, bottom), (GREY, 1.0), "");
    let middle = f64::midpoint(LEFT, RIGHT);
    let style = Style::new(12.0, GREY);
    svg.text(
        middle,
        bottom + 37.0,
        style,
        Anchor::Middle,
        "time, on a logarithmic scale",
    );
    let middle = f64::midpoint(top + TITLE, bottom);
    svg.upright(
        UPRIGHT,
        middle,
        style,
        "share of all, for each its own scale",
    );
}

fn row(svg: &mut Svg, top: f64, name: &str, times: &Times, axis: Logarithmic, colour: &str) {
    let base = top + HEAD + BARS;
    let label = Style::new(13.0, INK).bold().over_others();
    let figures = Style::new(13.0, INK).over_others();
    svg.line((LEFT, base), (RIGHT, base), (LIGHT, 1.0), "");
    if times.is_empty() {
        svg.text(LEFT, top + 17.0, label, Anchor::Start, name);
        svg.text(
            RIGHT,
            top + 17.0,
            figures,
            Anchor::End,
            "nothing was measured",
        );
        return;
    }
    #[allow(clippy::cast_possible_truncation)] // between 1 and 500
    let per_decade = (ACROSS / axis.decades()).clamp(1.0, 500.0) as i32;
    let bins = bins(times, per_decade);
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1);
    for bin in bins.iter().filter(|bin| bin.count > 0) {
        let (from, to) = (axis.place(bin.from), axis.place(bin.to));
        // A single one is seen, too.
        let height = (part(bin.count, most) * BARS).max(1.0);
        let width = (to - from - 0.4).max(0.6);
        svg.rect((from, base - height), (width, height), colour);
    }
    let share = part(most, times.count()) * 100.0;
    let share = if share < 9.95 {
        format!("{share:.1} %")
    } else {
        format!("{share:.0} %")
    };
    let small = Style::new(11.0, GREY);
    svg.line(
        (LEFT - 5.0, base - BARS),
        (LEFT, base - BARS),
        (GREY, 1.0),
        "",
    );
    svg.text(LEFT - 9.0, base - BARS + 4.0, small, Anchor::End, &share);
    svg.line((LEFT - 5.0, base), (LEFT, base), (GREY, 1.0), "");
    svg.text(LEFT - 9.0, base + 4.0, small, Anchor::End, "0");
    svg.line((LEFT, base - BARS), (LEFT, base), (GREY, 1.0), "");
    marks(svg, base, times, axis);
    svg.text(LEFT, top + 17.0, label, Anchor::Start, name);
    let text = format!(
        "p50 {} · p90 {} · p99 {} · max {}",
        time(times.quantile(0.5)),
        time(times.quantile(0.9)),
        time(times.quantile(0.99)),
        time(times.max())
    );
    svg.text(RIGHT, top + 17.0, figures, Anchor::End, &text);
}

/// The percentiles, with their names where there is room: that of the median on
/// its left, where no other one is.
fn marks(svg: &mut Svg, base: f64, times: &Times, axis: Logarithmic) {
    const ROOM: f64 = 27.0;
    let places = MARKS.map(|(quantile, ..)| axis.place(times.quantile(quantile)));
    let style = Style::new(11.0, INK).over_others();
    for (index, (_, name, dashes)) in MARKS.into_iter().enumerate() {
        let x = places[index];
        svg.line((x, base - BARS - 10.0), (x, base), (INK, 1.2), dashes);
        let next = places.get(index + 1).copied().unwrap_or(f64::MAX);
        let y = base - BARS - 3.0;
        if index == 0 && x - ROOM > LEFT {
            svg.text(x - 3.0, y, style, Anchor::End, name);
        } else if next - x > ROOM && x + ROOM < RIGHT {
            svg.text(x + 3.0, y, style, Anchor::Start, name);
        }
    }
}

#[allow(clippy::cast_precision_loss)] // for a picture
fn part(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}
