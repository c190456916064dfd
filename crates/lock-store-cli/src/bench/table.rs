//! The results for people, as text.

use std::fmt::{self, Write as _};

use super::bins::{Bin, lines};
use super::plan::Part;
use super::results::Results;
use super::text::{count, plain, rounded, seconds, time, whole};
use super::times::Times;

/// Lines of a histogram, at most, but for the two that sum up the rest.
const LINES: usize = 16;
/// Columns of the longest bar.
const BAR: usize = 40;

pub(super) struct Table<'r>(pub(super) &'r Results);

/// What was measured, and how it is called.
pub(super) fn rows(results: &Results) -> Vec<(String, &Times)> {
    let plan = &results.plan;
    let mut rows = Vec::new();
    if !results.round_trips.is_empty() {
        rows.push(("round trip of PING".to_owned(), &results.round_trips));
    }
    rows.push(("lock + release, 1 task".to_owned(), &results.one_task));
    let tasks = count(plan.all_tasks(), "task at once", "tasks at once");
    rows.push((format!("lock + release, {tasks}"), &results.load.cycles));
    if plan.parts().any(|part| part == Part::HandOff) {
        let waiters = count(plan.waiters, "waiter", "waiters");
        rows.push((format!("hand-off, {waiters}"), &results.hand_offs));
    }
    rows
}

/// What it was measured with.
pub(super) fn settings(results: &Results) -> String {
    let plan = &results.plan;
    let mut text = count(plan.processes, "process", "processes");
    let each = if plan.processes > 1 { " each" } else { "" };
    let _ = write!(text, ", {}{each}", count(plan.tasks, "task", "tasks"));
    let _ = write!(
        text,
        ", {}{}",
        count(plan.conversations, "conversation", "conversations"),
        if plan.is_contended() {
            " (contended)"
        } else {
            ""
        },
    );
    let redis = &results.config.redis;
    if redis.connections > 1 {
        let _ = write!(text, ", {} connections", redis.connections);
    }
    if redis.replicas > 0 {
        let _ = write!(text, ", {}", count(redis.replicas, "replica", "replicas"));
    }
    let nanos = super::clock::nanos;
    let (length, warm_up) = (seconds(nanos(plan.length)), seconds(nanos(plan.warm_up)));
    let _ = write!(text, "; {length} after a warm-up of {warm_up}");
    text
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(results) = self;
        let load = &results.load;
        writeln!(f, "{}", plain(&results.place))?;
        writeln!(f, "{}\n", settings(results))?;
        writeln!(
            f,
            "cycles per second   {} ({} cycles in {})",
            rounded(load.per_second()),
            whole(load.cycles.count()),
            seconds(load.length)
        )?;
        writeln!(f, "errors              {}", whole(results.faults.total()))?;
        for (kind, fault) in results.faults.iter() {
            let example = plain(&fault.example);
            writeln!(f, "  {} × {kind}: {example}", whole(fault.count))?;
        }
        let rows = rows(results);
        let widest = rows.iter().map(|(name, _)| name.chars().count()).max();
        let widest = widest.unwrap_or(0);
        write!(f, "\n{:widest$}", "")?;
        for name in ["p50", "p90", "p99", "max"] {
            write!(f, "  {name:>8}")?;
        }
        for (name, times) in &rows {
            write!(f, "\n{name:widest$}")?;
            for quantile in [0.5, 0.9, 0.99, 1.0] {
                let text = if times.is_empty() {
                    "–".to_owned()
                } else {
                    time(times.quantile(quantile))
                };
                write!(f, "  {text:>8}")?;
            }
        }
        writeln!(f)?;
        // The first ones differ little from each other.
        for (name, times) in rows.iter().rev().take(rows.len().min(2)).rev() {
            if !times.is_empty() && !std::ptr::eq(*times, &raw const results.one_task) {
                histogram(f, name, times)?;
            }
        }
        Ok(())
    }
}

fn histogram(f: &mut fmt::Formatter<'_>, name: &str, times: &Times) -> fmt::Result {
    writeln!(f, "\n{name}")?;
    let bins = lines(times, LINES);
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0);
    let marks = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];
    let marks = marks.map(|(quantile, name)| (times.quantile(quantile), name));
    for bin in bins {
        let Bin { from, to, count } = bin;
        let inside = |(time, _): &&(u64, &str)| (from..to).contains(time);
        let names: Vec<_> = marks.iter().filter(inside).map(|(_, name)| *name).collect();
        let line = format!(
            "  {:>8} – {:>8}  {:>6}  {} {}",
            time(from),
            time(to),
            share(count, times.count()),
            bar(count, most),
            names.join(" ")
        );
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // for people
fn share(count: u64, all: u64) -> String {
    let share = count as f64 * 100.0 / all.max(1) as f64;
    match count {
        0 => "0 %".into(),
        _ if share < 0.1 => "<0.1 %".into(),
        _ => format!("{share:.1} %"),
    }
}

/// In eighths of a column. What is there is seen.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn bar(count: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count as f64 * (BAR * 8) as f64 / most.max(1) as f64).ceil() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_they_should_be() {
        assert_eq!(bar(0, 100), "");
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(50, 100), "█".repeat(20));
        assert_eq!(bar(100, 100), "█".repeat(40));
        assert_eq!(share(1, 10_000), "<0.1 %");
        assert_eq!(share(1234, 10_000), "12.3 %");
    }
}
