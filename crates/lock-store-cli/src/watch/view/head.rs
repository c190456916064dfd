//! The top of the screen: the connection, figures, and how they went.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{RenderDirection, Sparkline, Widget as _};
use unicode_width::UnicodeWidthStr as _;

use super::{Theme, line};
use crate::watch::app::App;
use crate::watch::text::{self, number, time};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) {
    draw_title(app, area, buffer, theme);
    line(buffer, area, 1, &counts(app), Style::new());
    if area.height >= 4 {
        draw_graphs(app, area, buffer, theme);
    }
}

fn draw_title(app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let (connection, style) = connection(app, theme);
    let title = match &app.open {
        Some(open) => format!("queue of {}", text::visible(open.id.as_str())),
        None => "lock-store watch".to_owned(),
    };
    let width = usize::from(area.width);
    let connection = text::fit(&connection, width);
    let room = width.saturating_sub(connection.width() + 2);
    line(buffer, area, 0, &text::fit(&title, room), Theme::strong());
    if area.height > 0 {
        let x = area.right() - u16::try_from(connection.width()).unwrap_or(area.width);
        buffer.set_stringn(x, area.y, connection, width, style);
    }
}

/// The state of the connection, and how old the picture is if it is old.
fn connection(app: &App, theme: Theme) -> (String, Style) {
    let old = app.old().map(|age| format!("seen {} ago", time(age)));
    let old = old.unwrap_or_else(|| "seen never".to_owned());
    if app.is_away() {
        return (format!("REDIS IS AWAY, {old}"), theme.alert());
    }
    if app.old().is_some() {
        return (format!("NO ANSWER, {old}"), theme.alert());
    }
    let every = app.model.figures().interval;
    let every = every.map_or_else(String::new, |every| format!(", every {}", time(every)));
    (format!("connected{every}"), theme.good())
}

fn counts(app: &App) -> String {
    let figures = app.model.figures();
    let mut counts = format!(
        "{} conversations   longest queue {}   oldest wait {}",
        number(figures.conversations as u64),
        number(figures.longest_queue),
        time(figures.oldest_wait),
    );
    for (count, what) in [(figures.dead, "dead"), (figures.damaged, "damaged")] {
        if count > 0 {
            counts = format!("{counts}   {} {what}", number(count as u64));
        }
    }
    counts
}

fn draw_graphs(app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let (figures, history) = (app.model.figures(), app.model.history());
    let rate =
        |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"));
    let (acquired, handed_off) = (
        rate(figures.rates.map(|rates| rates.acquired)),
        rate(figures.rates.map(|rates| rates.handed_off)),
    );
    let half = area.width / 2;
    let cell = |column: u16, row: u16| Rect {
        x: area.x + column * half,
        y: area.y + row,
        width: half.saturating_sub(2),
        height: 1,
    };
    let thousandths =
        |values: &std::collections::VecDeque<f64>| values.iter().copied().map(scaled).collect();
    graph(
        "acquired",
        &acquired,
        thousandths(&history.acquired),
        cell(0, 2),
        buffer,
        theme,
    );
    graph(
        "handed off",
        &handed_off,
        thousandths(&history.handed_off),
        cell(0, 3),
        buffer,
        theme,
    );
    let waiting = history.waiting.iter().copied().collect();
    graph(
        "waiting",
        &number(figures.waiting),
        waiting,
        cell(1, 2),
        buffer,
        theme,
    );
    let shown = |wait: Option<_>| wait.map_or_else(|| "-".to_owned(), time);
    let waits = format!(
        "waited     median {}, p99 {}",
        shown(figures.wait_median),
        shown(figures.wait_p99)
    );
    line(buffer, cell(1, 3), 0, &waits, Style::new());
}

/// Sparklines take whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // never negative
fn scaled(rate: f64) -> u64 {
    (rate * 1000.0) as u64
}

/// A name, a figure, and how it went, the newest at the right.
fn graph(
    name: &str,
    figure: &str,
    values: Vec<u64>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    const NAME: usize = 10;
    const FIGURE: usize = 10;
    let text = format!(
        "{} {} ",
        text::left(name, NAME),
        text::right(figure, FIGURE)
    );
    line(buffer, area, 0, &text, Style::new());
    let used = u16::try_from(text.width())
        .unwrap_or(area.width)
        .min(area.width);
    let graph = Rect {
        x: area.x + used,
        width: area.width - used,
        ..area
    };
    let newest_first: Vec<u64> = values.into_iter().rev().collect();
    Sparkline::default()
        .data(newest_first)
        .direction(RenderDirection::RightToLeft)
        .style(theme.graph())
        .render(graph, buffer);
}
