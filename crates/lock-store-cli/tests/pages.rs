//! Completions and man pages.

#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs;
use std::process::{Command, Output, Stdio};

use common::{Ended, Place};
use fleet::bare;

const SUBCOMMANDS: [&str; 11] = [
    "process",
    "exec",
    "list",
    "show",
    "watch",
    "release",
    "doctor",
    "bench",
    "export",
    "completions",
    "man",
];

fn run(place: &Place, arguments: &[&str]) -> Ended {
    let ended = place.start(&mut bare(place, arguments)).ended();
    ended.says(0, &[]);
    ended
}

/// Runs a tool of the system.
fn tool(place: &Place, name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(place.path(""));
    let output = command
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "80")
        .output();
    output.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_shell_has_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&place, &["completions", shell]).stdout;
        for name in SUBCOMMANDS.into_iter().chain(["waiting-more-than"]) {
            assert!(script.contains(name), "{name} for {shell}");
        }
    }
    let mut wrong = bare(&place, &["completions", "tcsh"]);
    place
        .start(&mut wrong)
        .ended()
        .says(2, &["possible values: bash"]);
}

#[test]
fn bash_completes_subcommands_and_options() {
    let place = Place::new();
    let script = run(&place, &["completions", "bash"]).stdout;
    place.write("completions", script);
    let parsed = tool(&place, "bash", &["-n", "completions"]);
    assert!(parsed.status.success(), "{}", text(&parsed.stderr));
    let complete = |line: &[&str]| {
        let ask = format!(
            "source ./completions; COMP_WORDS=({}); COMP_CWORD={}; \
             f=$(complete -p lock-store); f=${{f#*-F }}; ${{f%% *}} lock-store {} {}; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.join(" "),
            line.len() - 1,
            line[line.len() - 1],
            line[line.len() - 2],
        );
        let output = tool(&place, "bash", &["--norc", "-c", &ask]);
        let words = text(&output.stdout);
        words.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["lock-store", "rel"]), ["release"]);
    assert_eq!(complete(&["lock-store", "comp"]), ["completions"]);
    let all = complete(&["lock-store", "''"]);
    for name in SUBCOMMANDS {
        assert!(all.iter().any(|word| word == name), "{name} in {all:?}");
    }
    assert_eq!(
        complete(&["lock-store", "list", "--wait"]),
        ["--waiting-more-than"]
    );
    let orders = complete(&["lock-store", "list", "--sort", "wa"]);
    assert_eq!(orders, ["waiting", "wait"]);
}

#[test]
fn every_man_page_renders_without_warnings() {
    let place = Place::new();
    run(&place, &["man", "--dir", "pages"]);
    let mut pages: Vec<_> = fs::read_dir(place.path("pages"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for name in SUBCOMMANDS {
        assert!(pages.contains(&format!("lock-store-{name}.1")), "{pages:?}");
    }
    assert!(pages.contains(&"lock-store.1".to_owned()), "{pages:?}");
    for page in &pages {
        let path = format!("pages/{page}");
        // Of groff's warnings all but those on fonts and devices of this
        // machine; a long word may make a line that cannot be filled.
        let options = ["-man", "-Tutf8", "-wall", "-Wbreak", "-P-cbou", &path];
        let rendered = tool(&place, "groff", &options);
        assert_eq!(text(&rendered.stderr), "", "{page}");
        let shown = text(&rendered.stdout);
        assert!(
            shown.contains("SYNOPSIS") && shown.contains("OPTIONS"),
            "{page}: {shown}"
        );
    }
}

#[test]
fn the_main_page_goes_to_standard_output() {
    let place = Place::new();
    let page = run(&place, &["man"]).stdout;
    assert!(page.contains(".TH lock-store 1"));
    for name in SUBCOMMANDS {
        // A hyphen may be written as \-.
        assert!(page.contains(name), "{name}");
    }
    place.write("file", "");
    let mut wrong = bare(&place, &["man", "--dir", "file/pages"]);
    let ended = place.start(&mut wrong).ended();
    ended.says(2, &["cannot write man pages into file/pages"]);
}

#[test]
fn a_closed_pipe_ends_them_quietly() {
    let place = Place::new();
    for arguments in [&["man"][..], &["completions", "zsh"]] {
        let mut command = bare(&place, arguments);
        let mut running = place.start(command.stdout(Stdio::piped()));
        drop(running.child().stdout.take());
        let ended = running.ended();
        ended.says(0, &[]);
        assert_eq!(ended.stderr, "");
    }
}
