use lock_store::{ConversationId, TicketState};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::watch::app::Action;
use crate::watch::lock::Seen;
use crate::watch::looker::News;
use crate::watch::samples::{lock, look, place, queue, seconds};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

const PLAIN: Theme = Theme { colours: false };
const COLOURS: Theme = Theme { colours: true };

fn app() -> App {
    let mut app = App::default();
    app.connected = true;
    app.take(News::Look(look(0.0, locks(0))));
    app.take(News::Look(look(1.0, locks(5))));
    app.now = seconds(1.2);
    app
}

/// So many tickets were served.
fn locks(served: u64) -> Vec<Seen> {
    let mut dead = lock("conversation-that-died", 0, 40, 0);
    dead.dead = true;
    dead.lease_left = seconds(0.0);
    vec![
        lock("anna", served, 10 + served, 1234),
        lock("会話", 0, 20, 2),
        lock("evil\u{1b}[2J", 0, 30, 1),
        dead,
    ]
}

fn drawn(app: &App, width: u16, height: u16, theme: Theme) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            draw(frame, app, theme);
        })
        .unwrap();
    terminal.backend().clone()
}

/// The lines of a screen, without the blanks at their ends.
fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
    let backend = drawn(app, width, height, PLAIN);
    let (buffer, mut lines) = (backend.buffer(), Vec::new());
    for y in 0..height {
        let (mut line, mut x) = (String::new(), 0);
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            let columns = unicode_width::UnicodeWidthStr::width(symbol);
            x += u16::try_from(columns).unwrap().max(1);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn press(app: &mut App, code: KeyCode) -> Action {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Compares a screen with what stands in a file.
#[track_caller]
fn assert_looks_like(app: &App, (width, height): (u16, u16), expected: &str) {
    let screen = screen(app, width, height).join("\n");
    assert_eq!(screen.trim_end(), expected.trim_end(), "\n{screen}\n");
}

fn with_open_queue() -> App {
    let mut app = app();
    press(&mut app, KeyCode::Enter);
    let mut gone = place(6, TicketState::Waiting, Some(false));
    gone.dead = true;
    gone.left = seconds(0.0);
    let places = vec![
        place(5, TicketState::Claimed, Some(true)),
        gone,
        place(7, TicketState::Promoted, None),
    ];
    let id = ConversationId::new("anna").unwrap();
    app.take(News::Queue(id, Ok(Some(queue(places)))));
    app
}

#[test]
fn a_list_on_a_usual_screen() {
    assert_looks_like(&app(), (80, 24), include_str!("screens/list_80x24.txt"));
}

#[test]
fn a_list_on_a_small_screen() {
    assert_looks_like(&app(), (40, 8), include_str!("screens/list_40x8.txt"));
}

#[test]
fn a_queue() {
    let app = with_open_queue();
    assert_looks_like(&app, (80, 10), include_str!("screens/queue_80x10.txt"));
    assert_looks_like(&app, (110, 10), include_str!("screens/queue_110x10.txt"));
}

#[test]
fn the_help_fits_a_usual_screen() {
    let mut app = app();
    press(&mut app, KeyCode::Char('?'));
    let lines = screen(&app, 80, 24);
    assert_eq!(lines[0], "lock-store watch: any key goes back");
    assert!(lines.iter().any(|line| line.contains("lower bounds")));
    assert!(lines[21].ends_with("than asked for."), "{lines:#?}");
}

#[test]
fn a_question_is_always_to_be_seen() {
    for (width, height) in [(80, 24), (30, 5), (20, 2), (20, 1)] {
        let mut app = app();
        press(&mut app, KeyCode::Char('r'));
        let lines = screen(&app, width, height);
        let asked = lines.iter().any(|line| line.ends_with("? y/n"));
        assert!(asked, "{width}x{height}: {lines:#?}");
    }
}

#[test]
fn a_question_names_the_ticket() {
    let mut app = app();
    press(&mut app, KeyCode::Char('r'));
    let lines = screen(&app, 80, 24);
    assert_eq!(lines[22], "release ticket 5 (holds) of anna? y/n");
}

#[test]
fn an_outage_is_said_and_the_picture_marked_as_old() {
    let mut app = app();
    app.take(News::Away("there is no connection to Redis".to_owned()));
    app.now = seconds(13.0);
    let lines = screen(&app, 80, 24);
    assert!(
        lines[0].ends_with("REDIS IS AWAY, seen 12.0 s ago"),
        "{}",
        lines[0]
    );
    assert!(lines[5].contains("anna"), "{}", lines[5]);
}

#[test]
fn a_filter_is_shown_while_and_after_it_is_typed() {
    let mut app = app();
    for c in ['/', 'A', 'n'] {
        press(&mut app, KeyCode::Char(c));
    }
    assert_eq!(screen(&app, 80, 24)[22], "/An_");
    press(&mut app, KeyCode::Enter);
    let lines = screen(&app, 80, 24);
    assert_eq!(lines[22], "only ids with An (Esc shows all)");
    assert!(lines[5].starts_with("> anna"), "{}", lines[5]);
    assert_eq!(lines[6], "");
}

#[test]
fn a_long_list_scrolls_with_the_selection() {
    let mut app = app();
    let many = (0..100).map(|i| lock(&format!("c{i:02}"), 0, i + 1, 100 - i));
    app.take(News::Look(look(2.0, many.collect())));
    press(&mut app, KeyCode::End);
    let lines = screen(&app, 80, 24);
    assert!(lines[21].starts_with("> c99"), "{lines:#?}");
    press(&mut app, KeyCode::Home);
    assert!(screen(&app, 80, 24)[5].starts_with("> c00"));
}

#[test]
fn every_size_can_be_drawn() {
    let mut asking = app();
    press(&mut asking, KeyCode::Char('r'));
    let mut filtering = app();
    press(&mut filtering, KeyCode::Char('/'));
    let mut help = app();
    press(&mut help, KeyCode::Char('?'));
    let empty = App::default();
    for app in [app(), with_open_queue(), asking, filtering, help, empty] {
        for width in (0..30).chain([40, 60, 79, 81, 120, 300]) {
            for height in (0..14).chain([24, 100]) {
                drawn(&app, width, height, COLOURS);
            }
        }
    }
}

#[test]
fn there_are_no_colours_where_none_are_wanted() {
    let app = with_open_queue();
    let has_colour = |theme| {
        let backend = drawn(&app, 80, 24, theme);
        let mut cells = backend.buffer().content().iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(has_colour(COLOURS));
    assert!(!has_colour(PLAIN));
    // And what is red is said, too.
    let lines = screen(&app, 80, 24);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("dead") && line.contains("NO"))
    );
}
