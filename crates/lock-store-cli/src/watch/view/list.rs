//! The conversations that have a lock.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, below, line, rows};
use crate::watch::app::App;
use crate::watch::lock::{Seen, state};
use crate::watch::order::Sort;
use crate::watch::text::{self, left, number, right, time};

/// What the id must have before further columns are shown.
const ID: usize = 16;
const GAP: usize = 2;

/// A column beside the id, the most important first.
struct Column {
    name: &'static str,
    width: usize,
    sort: Option<Sort>,
    value: fn(&Seen) -> String,
}

const COLUMNS: [Column; 5] = [
    Column {
        name: "WAITING",
        width: 8,
        sort: Some(Sort::Waiting),
        value: |lock| number(lock.waiting),
    },
    Column {
        name: "OLDEST",
        width: 7,
        sort: Some(Sort::OldestWait),
        value: |lock| match lock.waiting {
            0 => "-".to_owned(),
            _ => time(lock.oldest_wait),
        },
    },
    Column {
        name: "STATE",
        width: 7,
        sort: None,
        value: |lock| state(&lock.serving, lock.dead).to_owned(),
    },
    Column {
        name: "AGE",
        width: 7,
        sort: Some(Sort::Age),
        value: |lock| time(lock.age),
    },
    Column {
        name: "LEASE",
        width: 7,
        sort: Some(Sort::LeaseLeft),
        value: |lock| time(lock.lease_left),
    },
];

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, theme: Theme) -> usize {
    let (columns, id) = columns(usize::from(area.width).saturating_sub(2));
    let heading = |name: &str, sort| match sort {
        Some(sort) if app.order.sort == sort && app.order.reversed => format!("{name}▲"),
        Some(sort) if app.order.sort == sort => format!("{name}▼"),
        _ => name.to_owned(),
    };
    let header = row(
        columns,
        left(&heading("CONVERSATION", Some(Sort::Id)), id),
        |column| heading(column.name, column.sort),
    );
    line(buffer, area, 0, &format!("  {header}"), Theme::header());
    let body = below(area);
    if app.rows().len() == 0 {
        let none = match app.order.filter.as_str() {
            "" => "  no conversation has a lock",
            _ => "  no conversation passes the filter",
        };
        line(buffer, body, 0, none, Theme::dim());
    }
    let shown = |lock: &Seen| {
        let text = row(
            columns,
            left(&text::visible(lock.id.as_str()), id),
            |column| (column.value)(lock),
        );
        let style = if lock.dead {
            theme.alert()
        } else {
            Style::new()
        };
        (text, style)
    };
    rows(buffer, body, app.rows(), app.position(), shown);
    usize::from(body.height)
}

/// The columns that have room, and what is left for the id.
fn columns(width: usize) -> (&'static [Column], usize) {
    let (mut shown, mut id) = (0, width);
    for column in &COLUMNS {
        let needed = column.width + GAP;
        if id < needed + ID {
            break;
        }
        id -= needed;
        shown += 1;
    }
    (&COLUMNS[..shown], id)
}

fn row(columns: &[Column], id: String, value: impl Fn(&Column) -> String) -> String {
    columns.iter().fold(id, |row, column| {
        format!(
            "{row}{}{}",
            " ".repeat(GAP),
            right(&value(column), column.width)
        )
    })
}
