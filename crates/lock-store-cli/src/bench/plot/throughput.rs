//! Cycles per second over time.

use super::axis::steps;
use super::svg::{Anchor, Style, Svg};
use super::{GREY, INK, LEFT, LIGHT, MARGIN, RIGHT, UPRIGHT};
use crate::bench::clock::seconds;
use crate::bench::results::Results;
use crate::bench::text::{rounded, whole};

const TITLE: f64 = 14.0;
const CHART: f64 = 170.0;
pub(super) const HEIGHT: f64 = TITLE + 22.0 + CHART + 44.0;

pub(super) fn draw(svg: &mut Svg, top: f64, results: &Results, colour: &str) {
    let load = &results.load;
    let title = Style::new(15.0, INK).bold();
    let small = Style::new(12.0, GREY);
    svg.text(MARGIN, top + TITLE, title, Anchor::Start, "Throughput");
    let (above, bottom) = (top + TITLE + 22.0, top + TITLE + 22.0 + CHART);

    let rates = load.intervals.iter().map(|interval| interval.per_second());
    let (step, count) = steps(rates.fold(0.0, f64::max));
    #[allow(clippy::cast_precision_loss)] // there are few
    let highest = step * count as f64;
    let y = |rate: f64| bottom - (rate / highest).clamp(0.0, 1.0) * CHART;
    for tick in 0..=count {
        #[allow(clippy::cast_precision_loss)]
        let rate = step * tick as f64;
        svg.line((LEFT, y(rate)), (RIGHT, y(rate)), (LIGHT, 1.0), "");
        let text = if step < 1.0 {
            format!("{rate:.1}")
        } else {
            rounded(rate)
        };
        svg.text(LEFT - 9.0, y(rate) + 4.0, small, Anchor::End, &text);
    }
    let length = seconds(load.length);
    let x = |at: f64| LEFT + (at / length.max(1e-9)) * (RIGHT - LEFT);
    let (step, _) = steps(length);
    let mut at = 0.0;
    while length > 0.0 && at <= length * 1.000_001 {
        svg.line((x(at), bottom), (x(at), bottom + 5.0), (GREY, 1.0), "");
        svg.text(
            x(at),
            bottom + 18.0,
            small,
            Anchor::Middle,
            &tick_text(at, step),
        );
        at += step;
    }
    let mut points = Vec::new();
    for interval in &load.intervals {
        let rate = y(interval.per_second());
        points.push((x(seconds(interval.at)), rate));
        points.push((x(seconds(interval.at + interval.length)), rate));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let mut area = vec![(first.0, bottom)];
        area.extend(&points);
        area.push((last.0, bottom));
        svg.area(&area, colour, 0.14);
        svg.path(&points, colour, 1.8);
        let mean = load.per_second();
        svg.line((LEFT, y(mean)), (RIGHT, y(mean)), (INK, 1.0), "6 4");
        let text = format!("mean {}", rounded(mean));
        let y = top + TITLE;
        svg.text(RIGHT, y, Style::new(13.0, INK), Anchor::End, &text);
    } else {
        let middle = (f64::midpoint(LEFT, RIGHT), f64::midpoint(above, bottom));
        svg.text(
            middle.0,
            middle.1,
            small,
            Anchor::Middle,
            "nothing was measured",
        );
    }
    svg.line((LEFT, above), (LEFT, bottom), (GREY, 1.0), "");
    svg.line((LEFT, bottom), (RIGHT, bottom), (GREY, 1.0), "");
    let interval = load.intervals.first().map_or(0, |interval| interval.length);
    let axis = format!(
        "time since the end of the warm-up in s, {} ms for each step",
        whole(interval / 1_000_000)
    );
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.text(middle, bottom + 37.0, small, Anchor::Middle, &axis);
    svg.upright(
        UPRIGHT,
        f64::midpoint(above, bottom),
        small,
        "cycles per second",
    );
}

/// With as many digits behind the point as the steps need.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn tick_text(at: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{at:.digits$}")
}
