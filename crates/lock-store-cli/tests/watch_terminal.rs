//! `watch` on a terminal: what is seen there, and that it is left as found.

#![allow(clippy::unwrap_used)]

#[path = "watch/fleet.rs"]
mod fleet;
#[path = "watch/terminal.rs"]
mod terminal;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use fleet::Fleet;
use nix::sys::signal::Signal;
use terminal::Terminal;

const USUAL: (u16, u16) = (80, 24);

/// Often, so that nothing has to be waited for.
const OFTEN: [&str; 2] = ["--interval", "0.02"];

fn watching(fleet: &Fleet) -> Terminal {
    let terminal = Terminal::start(USUAL, &fleet.watch(&OFTEN));
    terminal.until_shown("connected, every");
    terminal
}

/// The place of the line that has this text.
fn row(lines: &[String], text: &str) -> Option<usize> {
    lines.iter().position(|line| line.contains(text))
}

fn are_in_order(lines: &[String], texts: &[&str]) -> bool {
    let rows: Vec<_> = texts.iter().map(|text| row(lines, text)).collect();
    rows.iter().all(Option::is_some) && rows.is_sorted()
}

#[test]
fn queues_are_shown_sorted_and_filtered() {
    let fleet = Fleet::new();
    let _held = [
        fleet.hold("zora", 3),
        fleet.hold("anna", 1),
        fleet.hold("会話\u{1b}[2J", 2),
    ];
    let mut terminal = watching(&fleet);
    terminal.until("the longest queue on top", |lines| {
        are_in_order(lines, &["> zora", "会話\\u{1b}[2J", "anna"])
    });
    terminal.until_shown("3 conversations   longest queue 3");
    terminal.press("i");
    terminal.until("by id", |lines| {
        are_in_order(lines, &["> anna", "zora", "会話"])
    });
    terminal.press("S");
    terminal.until("in reverse order", |lines| {
        are_in_order(lines, &["会話", "zora", "anna"])
    });
    terminal.press("/ZO");
    terminal.until_shown("/ZO_");
    terminal.until_gone("anna");
    terminal.until_shown("> zora");
    terminal.press("\r\u{1b}");
    terminal.until_shown("anna");
    terminal.press("?");
    terminal.until_shown("any key goes back");
    terminal.press(" ");
    terminal.until_shown("> ");
    terminal.press("q");
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn hand_offs_are_noticed() {
    let fleet = Fleet::new();
    let held = fleet.hold("anna", 2);
    let terminal = watching(&fleet);
    terminal.until_shown("acquired        0.0/s");
    terminal.until_shown("waited     median -, p99 -");
    let _held = fleet.hand_on(held);
    terminal.until("waiting times", |lines| {
        let waited = lines.iter().find(|line| line.contains("waited"));
        waited.is_some_and(|line| line.contains("s, p99") && !line.contains('-'))
    });
}

#[test]
fn a_queue_is_opened_and_exactly_the_ticket_shown_is_released() {
    let fleet = Fleet::new();
    let held = fleet.hold("anna", 2);
    let mut terminal = watching(&fleet);
    terminal.press("\r");
    terminal.until_shown("queue of anna");
    terminal.until_shown("2 waiting; the key ends in");
    terminal.until("tickets with their owners", |lines| {
        lines.iter().filter(|line| line.contains(" yes ")).count() == 3
    });
    terminal.press("jr");
    terminal.until_shown("release ticket 1 (waiting) of anna? y/n");
    terminal.press("n");
    terminal.until_shown("nothing was released");
    terminal.until_shown("2 waiting");
    terminal.press("r");
    terminal.until_shown("? y/n");
    terminal.press("y");
    terminal.until_shown("released ticket 1 of anna");
    terminal.until_shown("1 waiting");
    assert!(!held.guard.is_lost());
    // And the head, from the list.
    terminal.press("\u{7f}\u{c}r");
    terminal.until_shown("release ticket 0 (holds) of anna? y/n");
    terminal.press("y");
    terminal.until_shown("released ticket 0 of anna");
    fleet.until_lost(&held);
    let inspected = fleet.server.command(&["LLEN", "lock-store:tickets:anna"]);
    assert_eq!(inspected.integer(), 1, "the last one");
}

#[test]
fn it_is_drawn_anew_when_resized() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    let mut terminal = watching(&fleet);
    terminal.until_shown("filter  w o a l i sort");
    let last = |lines: &[String]| lines.len();
    terminal.resize(120, 40);
    terminal.until("forty lines", |lines| last(lines) == 40);
    terminal.resize(40, 8);
    terminal.until("eight lines", |lines| {
        last(lines) == 8 && lines.iter().any(|line| line.contains("> anna"))
    });
    terminal.resize(3, 1);
    terminal.resize(1, 1);
    terminal.resize(80, 24);
    terminal.until("all of it", |lines| {
        last(lines) == 24 && are_in_order(lines, &["longest queue", "handed off", "> anna"])
    });
    terminal.press("q");
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn keys_and_signals_end_it_and_leave_the_terminal_as_it_was() {
    let fleet = Fleet::new();
    let mut terminal = watching(&fleet);
    assert!(!terminal.is_cooked());
    assert!(terminal.look(|screen| screen.alternate_screen() && screen.hide_cursor()));
    terminal.press("\u{3}");
    assert_eq!(terminal.ended().code(), Some(130));
    terminal.assert_restored();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
    ] {
        let mut terminal = watching(&fleet);
        terminal.signal(signal);
        assert_eq!(terminal.ended().code(), Some(code));
        terminal.assert_restored();
    }
}

/// Only what is built for tests can be asked to panic.
#[cfg(debug_assertions)]
#[test]
fn a_panic_leaves_the_terminal_as_it_was_and_can_be_read() {
    let fleet = Fleet::new();
    let mut command = fleet.watch(&OFTEN);
    // A trace has more lines than the screen.
    command
        .env("LOCK_STORE_TEST_PANIC", "1")
        .env("RUST_BACKTRACE", "0");
    let mut terminal = Terminal::start(USUAL, &command);
    terminal.until_shown("connected, every");
    terminal.press("!");
    assert_eq!(terminal.ended().code(), Some(101));
    terminal.assert_restored();
    terminal.until_shown("a test asked for a panic");
}

#[test]
fn it_can_be_stopped_and_continued() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    let mut terminal = watching(&fleet);
    // Nobody is there who would wake it, so the key is refused.
    terminal.press("\u{1a}");
    terminal.until_shown("nobody could wake it");
    terminal.signal(Signal::SIGTSTP);
    let stat = format!("/proc/{}/stat", terminal.pid());
    redis_fixture::until("it is stopped", || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    terminal.assert_restored();
    terminal.signal(Signal::SIGCONT);
    terminal.until_shown("> anna");
    assert!(!terminal.is_cooked());
    assert!(terminal.look(vt100::Screen::alternate_screen));
    terminal.press("q");
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn a_shell_suspends_it_with_a_key_and_takes_it_up_again() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    let watch = fleet.watch(&OFTEN);
    let words = std::iter::once(watch.get_program()).chain(watch.get_args());
    let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut shell = Command::new("bash");
    shell
        .args(["--norc", "--noprofile", "--noediting", "-i"])
        .env("PS1", "shell> ");
    let mut terminal = Terminal::start(USUAL, &shell);
    terminal.until_shown("shell> ");
    terminal.press(&format!("{}\n", line.join(" ")));
    terminal.until_shown("connected, every");
    terminal.press("\u{1a}");
    terminal.until_shown("Stopped");
    assert!(terminal.look(|screen| !screen.alternate_screen() && !screen.hide_cursor()));
    terminal.press("fg\n");
    terminal.until_shown("> anna");
    terminal.press("q");
    terminal.until_gone("> anna");
    terminal.press("exit 7\n");
    assert_eq!(terminal.ended().code(), Some(7));
    terminal.assert_restored();
}

#[test]
fn an_outage_is_seen_and_the_last_picture_stays() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    let mut terminal = watching(&fleet);
    terminal.until_shown("> anna");
    fleet.server.kill();
    terminal.until_shown("REDIS IS AWAY, seen ");
    terminal.until_shown("> anna");
    fleet.server.restart_empty();
    terminal.until_shown("connected, every");
    terminal.until_shown("no conversation has a lock");
    terminal.press("q");
    let status = terminal.ended();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    terminal.assert_restored();
}

#[test]
fn without_colours_where_none_are_wanted() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    let has_colours = |terminal: &Terminal| {
        terminal.look(|screen| {
            let mut places = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
            places.any(|(row, column)| {
                let cell = screen.cell(row, column).unwrap();
                cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
            })
        })
    };
    assert!(has_colours(&watching(&fleet)));
    let mut command = fleet.watch(&OFTEN);
    command.env("NO_COLOR", "1");
    let terminal = Terminal::start(USUAL, &command);
    terminal.until_shown("> anna");
    assert!(!has_colours(&terminal));
}

#[test]
fn it_ends_after_so_many_looks() {
    let fleet = Fleet::new();
    let mut terminal =
        Terminal::start(USUAL, &fleet.watch(&["--count", "2", "--interval", "0.02"]));
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn lines_may_be_wanted_on_a_terminal_too() {
    let fleet = Fleet::new();
    let mut terminal = Terminal::start((200, 24), &fleet.watch(&["--plain", "--count", "1"]));
    assert_eq!(terminal.ended().code(), Some(0));
    terminal.until_shown("connected=true conversations=0 waiting=0");
}
