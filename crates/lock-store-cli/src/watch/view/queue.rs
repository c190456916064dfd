//! One queue, ticket by ticket.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, below, line, rows};
use crate::watch::app::{App, Open, SeenQueue};
use crate::watch::lock::{Place, Queue, state};
use crate::watch::text::{left, number, right, time};

/// What a token has, and its gap.
const TOKEN: usize = 18;

pub(super) fn draw(open: &Open, app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) -> usize {
    let (summary, style) = summary(&open.seen, theme);
    line(buffer, area, 0, &summary, style);
    let area = below(area);
    let width = usize::from(area.width);
    let header = row(
        width,
        ["TICKET", "STATE", "AGE", "LEFT", "ALIVE", "OWNER", "TOKEN"],
    );
    line(buffer, area, 0, &format!("  {header}"), Theme::header());
    let body = below(area);
    if let Some(queue) = open.seen.queue() {
        let shown = |place: &Place| {
            let style = if place.dead || place.alive == Some(false) {
                theme.alert()
            } else {
                Style::new()
            };
            (ticket(width, place), style)
        };
        rows(buffer, body, queue.places.iter(), app.position(), shown);
    }
    usize::from(body.height)
}

fn summary(seen: &SeenQueue, theme: Theme) -> (String, Style) {
    match seen {
        SeenQueue::NotYet => ("looking…".to_owned(), Theme::dim()),
        SeenQueue::Empty => (
            "nobody holds it and nobody waits".to_owned(),
            Theme::strong(),
        ),
        SeenQueue::Trouble(why, _) => (why.clone(), theme.alert()),
        SeenQueue::Queue(queue) => (sizes(queue), Style::new()),
    }
}

fn sizes(queue: &Queue) -> String {
    let places = || queue.places.iter();
    let waiting = (queue.places.len() as u64).saturating_sub(1);
    let mut sizes = format!("{} waiting", number(waiting));
    let gone = places().filter(|place| place.alive == Some(false)).count();
    let dead = places().filter(|place| place.dead).count();
    for (count, what) in [(dead, "expired"), (gone, "with an owner that is not there")] {
        if count > 0 {
            sizes = format!("{sizes}, {} {what}", number(count as u64));
        }
    }
    match queue.time_to_live {
        Some(left) => format!("{sizes}; the key ends in {}", time(left)),
        None => format!("{sizes}; the key has NO time to live"),
    }
}

fn ticket(width: usize, place: &Place) -> String {
    let ticket = &place.ticket;
    let alive = match place.alive {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "?",
    };
    let owner = ticket
        .owner
        .map_or_else(|| "-".to_owned(), |owner| owner.to_string());
    row(
        width,
        [
            &number(ticket.number),
            state(ticket, place.dead),
            &time(place.age),
            &time(place.left),
            alive,
            &owner,
            &ticket.fencing_token.to_string(),
        ],
    )
}

/// The owner has what is left, and the token, too, if there is enough.
fn row(width: usize, cells: [&str; 7]) -> String {
    let [number, state, age, left_to_live, alive, owner, token] = cells;
    let fixed = format!(
        "{}  {}  {}  {}  {}  ",
        right(number, 8),
        left(state, 7),
        right(age, 7),
        right(left_to_live, 7),
        left(alive, 5),
    );
    // The mark in front, and columns of one place each.
    let room = width.saturating_sub(2 + fixed.chars().count());
    if room < owner.len().max(24) + TOKEN {
        return format!("{fixed}{}", left(owner, room));
    }
    format!("{fixed}{}  {token}", left(owner, room - TOKEN))
}
