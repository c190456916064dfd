use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use lock_store::TicketState;

use super::*;
use crate::watch::samples::{lock, look, place, queue, seconds, ticket};

fn app() -> App {
    let mut app = App {
        connected: true,
        page: 2,
        ..App::default()
    };
    app.take(News::Look(look(1.0, locks())));
    app.now = seconds(1.0);
    app
}

fn locks() -> Vec<Seen> {
    vec![
        lock("anna", 0, 1, 1),
        lock("bob", 3, 2, 9),
        lock("carl", 0, 3, 5),
        lock("dora", 0, 4, 0),
    ]
}

fn press(app: &mut App, keys: &str) -> Action {
    let mut action = Action::Nothing;
    for c in keys.chars() {
        action = code(app, KeyCode::Char(c));
    }
    action
}

fn code(app: &mut App, code: KeyCode) -> Action {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn shown(app: &App) -> Vec<&str> {
    app.rows().map(|lock| lock.id.as_str()).collect()
}

fn selected(app: &App) -> String {
    app.ticket().unwrap().id.to_string()
}

#[test]
fn the_longest_queue_is_on_top_and_keys_change_that() {
    let mut app = app();
    assert_eq!(shown(&app), ["bob", "carl", "anna", "dora"]);
    press(&mut app, "i");
    assert_eq!(shown(&app), ["anna", "bob", "carl", "dora"]);
    press(&mut app, "S");
    assert_eq!(shown(&app), ["dora", "carl", "bob", "anna"]);
    press(&mut app, "s");
    assert_eq!(shown(&app), ["bob", "carl", "anna", "dora"]);
}

#[test]
fn what_is_selected_stays_selected_while_it_moves() {
    let mut app = app();
    press(&mut app, "j");
    assert_eq!((selected(&app).as_str(), app.position()), ("carl", 1));
    let mut moved = locks();
    moved[2].waiting = 99;
    app.take(News::Look(look(2.0, moved)));
    assert_eq!((selected(&app).as_str(), app.position()), ("carl", 0));
    let without = locks()
        .into_iter()
        .filter(|lock| lock.id.as_str() != "carl");
    app.take(News::Look(look(3.0, without.collect())));
    assert_eq!(selected(&app), "bob");
}

#[test]
fn the_selection_stays_within_the_list() {
    let mut app = app();
    press(&mut app, "k");
    assert_eq!(app.position(), 0);
    press(&mut app, "G");
    assert_eq!(selected(&app), "dora");
    press(&mut app, "jj");
    assert_eq!(selected(&app), "dora");
    code(&mut app, KeyCode::PageUp);
    assert_eq!(selected(&app), "carl");
    app.take(News::Look(look(2.0, vec![])));
    assert_eq!((app.ticket(), app.position()), (None, 0));
    assert_eq!(press(&mut app, "jGr"), Action::Nothing);
    assert_eq!(code(&mut app, KeyCode::Enter), Action::Nothing);
    assert_eq!(app.mode, Mode::Look);
}

#[test]
fn a_filter_shows_while_it_is_typed_and_escape_takes_it_back() {
    let mut app = app();
    press(&mut app, "/AN");
    assert_eq!(shown(&app), ["anna"]);
    code(&mut app, KeyCode::Backspace);
    assert_eq!(shown(&app), ["carl", "anna", "dora"]);
    code(&mut app, KeyCode::Enter);
    press(&mut app, "/q");
    assert_eq!(shown(&app).len(), 0);
    code(&mut app, KeyCode::Esc);
    assert_eq!(app.order.filter, "A");
    code(&mut app, KeyCode::Esc);
    assert_eq!(shown(&app).len(), 4);
}

#[test]
fn release_asks_and_takes_the_ticket_that_was_shown() {
    let mut app = app();
    assert_eq!(press(&mut app, "r"), Action::Nothing);
    // Another ticket has come to the head meanwhile.
    let mut later = locks();
    later[1].serving = ticket(4, 9);
    app.take(News::Look(look(2.0, later)));
    let Action::Release(release) = press(&mut app, "y") else {
        panic!("it was a yes");
    };
    assert_eq!(release.id.as_str(), "bob");
    assert_eq!(release.ticket, ticket(3, 2));
    app.released(&release, Ok(false));
    assert_eq!(
        app.notice(),
        Some("ticket 3 of bob was already gone; nothing was released")
    );
}

#[test]
fn whatever_is_no_yes_is_a_no() {
    for answer in [
        KeyCode::Char('n'),
        KeyCode::Char('q'),
        KeyCode::Esc,
        KeyCode::Enter,
    ] {
        let mut app = app();
        press(&mut app, "r");
        assert_eq!(code(&mut app, answer), Action::Nothing);
        assert_eq!(app.mode, Mode::Look);
        assert_eq!(app.notice(), Some("nothing was released"));
    }
    // And a yes without a question is nothing.
    assert_eq!(press(&mut app(), "y"), Action::Nothing);
}

#[test]
fn a_queue_is_opened_and_closed() {
    let mut app = app();
    let bob = ConversationId::new("bob").unwrap();
    assert_eq!(
        code(&mut app, KeyCode::Enter),
        Action::Open(Some(bob.clone()))
    );
    assert_eq!(app.ticket(), None);
    let places = vec![
        place(3, TicketState::Claimed, Some(true)),
        place(4, TicketState::Waiting, Some(false)),
    ];
    app.take(News::Queue(bob.clone(), Ok(Some(queue(places.clone())))));
    press(&mut app, "j");
    assert_eq!(app.ticket().unwrap().ticket, places[1].ticket);
    // The selection stays with its ticket.
    app.take(News::Queue(
        bob.clone(),
        Ok(Some(queue(places[1..].to_vec()))),
    ));
    assert_eq!(app.position(), 0);
    assert_eq!(app.ticket().unwrap().ticket, places[1].ticket);
    // Sorting is for the list.
    press(&mut app, "i");
    assert_eq!(app.order.sort, crate::watch::order::Sort::Waiting);
    app.take(News::Queue(bob, Ok(None)));
    assert_eq!(app.ticket(), None);
    assert_eq!(code(&mut app, KeyCode::Esc), Action::Open(None));
    assert_eq!(selected(&app), "bob");
}

#[test]
fn news_of_a_queue_that_was_closed_are_no_news() {
    let mut app = app();
    code(&mut app, KeyCode::Enter);
    let anna = ConversationId::new("anna").unwrap();
    app.take(News::Queue(anna, Ok(Some(queue(vec![])))));
    assert!(matches!(app.open.unwrap().seen, SeenQueue::NotYet));
}

#[test]
fn a_queue_that_cannot_be_looked_at_stays_as_it_was() {
    let mut app = app();
    code(&mut app, KeyCode::Enter);
    let bob = ConversationId::new("bob").unwrap();
    let places = vec![place(3, TicketState::Claimed, None)];
    app.take(News::Queue(bob.clone(), Ok(Some(queue(places)))));
    for _ in 0..2 {
        app.take(News::Queue(bob.clone(), Err("away".to_owned())));
        assert!(app.ticket().is_some());
    }
    let open = app.open.unwrap();
    assert!(matches!(open.seen, SeenQueue::Trouble(why, Some(_)) if why == "away"));
}

#[test]
fn a_picture_gets_old() {
    let mut app = app();
    assert_eq!(app.old(), None);
    app.now = seconds(4.5);
    assert_eq!(app.old(), Some(seconds(3.5)));
    app.now = seconds(1.5);
    app.connected = false;
    assert_eq!(app.old(), Some(seconds(0.5)));
    app.connected = true;
    app.take(News::Away("gone".to_owned()));
    assert!(app.is_away() && app.old().is_some());
}

#[test]
fn notices_go_away_by_themselves() {
    let mut app = app();
    app.notify("hello".to_owned());
    assert_eq!(app.notice(), Some("hello"));
    app.now += NOTICE;
    assert_eq!(app.notice(), None);
}

#[test]
fn control_keys_work_everywhere() {
    for prefix in ["", "/", "r", "?"] {
        let mut app = app();
        press(&mut app, prefix);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(key), Action::Interrupt, "after {prefix:?}");
    }
    assert_eq!(press(&mut app(), "q"), Action::Quit);
    // In a filter it is a letter.
    assert_eq!(press(&mut app(), "/q"), Action::Nothing);
}
