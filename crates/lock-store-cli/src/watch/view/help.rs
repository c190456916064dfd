//! What the keys do, and what the figures are.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, line};

const HELP: &str = "\
↑ ↓ PgUp PgDn Home End   select (also k j g G)
Enter, Esc               open the queue of the conversation, and go back
r                        release the ticket, after y: its owner loses it, and
                         the next is called
w o a l i                sort by number waiting, oldest wait, age, lease, id
s S                      next order, reverse order
/                        filter ids; Enter keeps, Esc takes back
q Ctrl-C Ctrl-Z          quit, suspend

WAITING  tickets behind the one that is served
OLDEST   how long the next one has been waiting
STATE    holds; called: has not answered yet; dead: expired, not dropped yet
AGE      since the ticket that is served was issued
LEASE    until it expires
ALIVE    whether the owner's process listens; ? where the server does not tell

All is seen by sampling: acquired and handed off are lower bounds, as what comes
and goes between two looks is not seen; who gave up waiting counts as served.
waited: of the heads that were seen in the last 60 s. Looking takes at most a
tenth of the time, so with many locks the interval is longer than asked for.";

pub(super) fn draw(area: Rect, buffer: &mut Buffer) {
    line(
        buffer,
        area,
        0,
        "lock-store watch: any key goes back",
        Theme::strong(),
    );
    for (row, text) in (2..).zip(HELP.lines()) {
        line(buffer, area, row, text, Style::new());
    }
}
