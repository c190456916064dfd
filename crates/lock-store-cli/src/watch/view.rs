//! Draws what is shown: a function of the state, for a screen of any size.
//!
//! Whatever has no room is left out, the least important first; a question is
//! always to be seen.

mod head;
mod help;
mod list;
mod queue;
mod theme;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;

use super::app::{App, Mode, Release};
use super::lock::state;
use super::text;
pub(crate) use theme::Theme;

/// Draws it, and returns how many rows of a list had room.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme) -> usize {
    let (area, buffer) = (frame.area(), frame.buffer_mut());
    if app.mode == Mode::Help {
        help::draw(area, buffer);
        return 0;
    }
    let is_asked = matches!(app.mode, Mode::Ask(_) | Mode::Filter(_));
    let foot = match area.height {
        8.. => 2,
        4.. => 1,
        _ => u16::from(is_asked),
    };
    let head = match area.height.saturating_sub(foot) {
        0 => 0,
        _ if app.open.is_some() => 1,
        10.. => 4,
        5.. => 2,
        _ => 1,
    };
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(head),
        Constraint::Fill(1),
        Constraint::Length(foot),
    ])
    .areas(area);
    head::draw(app, head, buffer, theme);
    draw_foot(app, foot, buffer, theme);
    match &app.open {
        Some(open) => queue::draw(open, app, body, buffer, theme),
        None => list::draw(app, body, buffer, theme),
    }
}

/// What there is to say, and which keys there are.
fn draw_foot(app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let width = usize::from(area.width);
    let (said, style) = status(app, width, theme);
    let (keys, keys_style) = (keys(app), Theme::dim());
    match area.height {
        0 => {}
        1 if said.is_empty() => line(buffer, area, 0, keys, keys_style),
        1 => line(buffer, area, 0, &said, style),
        _ => {
            line(buffer, area, 0, &said, style);
            line(buffer, area, 1, keys, keys_style);
        }
    }
}

fn status(app: &App, width: usize, theme: Theme) -> (String, Style) {
    let filter = text::visible(&app.order.filter);
    match &app.mode {
        Mode::Ask(release) => return (question(release, width), theme.alert()),
        Mode::Filter(_) => return (format!("/{filter}_"), Theme::strong()),
        Mode::Look | Mode::Help => {}
    }
    if let Some(notice) = app.notice() {
        return (notice.to_owned(), Theme::strong());
    }
    if let Some(damaged) = app.model.damaged().first() {
        return (format!("damaged: {damaged}"), theme.alert());
    }
    match filter.as_str() {
        "" => (String::new(), Style::new()),
        filter => (
            format!("only ids with {filter} (Esc shows all)"),
            Theme::strong(),
        ),
    }
}

/// The id is cut if need be, what is asked is not.
fn question(release: &Release, width: usize) -> String {
    let ticket = &release.ticket;
    let what = format!(
        "release ticket {} ({}) of ",
        ticket.number,
        state(ticket, false)
    );
    let answers = "? y/n";
    let room = width.saturating_sub(what.len() + answers.len());
    let id = text::visible(release.id.as_str());
    match room {
        0..8 => format!("release {}{answers}", ticket.number),
        _ => format!("{what}{}{answers}", text::fit(&id, room)),
    }
}

fn keys(app: &App) -> &'static str {
    match (&app.mode, &app.open) {
        (Mode::Ask(_), _) => "y its owner loses it and the next is called   n leave it",
        (Mode::Filter(_), _) => "Enter keep   Esc take back",
        (_, Some(_)) => "q quit  ? help  ↑↓ select  r release  Esc back",
        (_, None) => "q quit  ? help  ↑↓ select  Enter open  r release  / filter  w o a l i sort",
    }
}

/// Writes a line of an area, if it has that line.
fn line(buffer: &mut Buffer, area: Rect, row: u16, text: &str, style: Style) {
    if row < area.height {
        let width = usize::from(area.width);
        let text = text::left(text, width);
        buffer.set_stringn(area.x, area.y + row, text, width, style);
    }
}

/// Writes the rows around the selected one; each has a mark in front that tells
/// whether it is the one.
fn rows<T>(
    buffer: &mut Buffer,
    area: Rect,
    items: impl ExactSizeIterator<Item = T>,
    selected: usize,
    mut shown: impl FnMut(T) -> (String, Style),
) {
    let room = usize::from(area.height);
    let last = items.len().saturating_sub(room);
    let first = selected.saturating_sub(room / 2).min(last);
    let visible = items.enumerate().skip(first).take(room);
    for (row, (i, item)) in (0..).zip(visible) {
        let (text, style) = shown(item);
        let (mark, style) = if i == selected {
            ("> ", Theme::selected())
        } else {
            ("  ", style)
        };
        line(buffer, area, row, &format!("{mark}{text}"), style);
    }
}

/// The rows of an area without its first one.
fn below(area: Rect) -> Rect {
    let skipped = area.height.min(1);
    Rect {
        y: area.y + skipped,
        height: area.height - skipped,
        ..area
    }
}

#[cfg(test)]
mod tests;
