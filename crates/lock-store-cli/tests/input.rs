//! What is read, and what is wrong with it.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;

use common::{Place, assert_each_once_in_order, message, until, write_to};

#[test]
fn a_line_that_is_no_message_is_reported_with_its_number() {
    let place = Place::new();
    let mut text = message("a", "one").into_bytes();
    text.extend_from_slice(
        b"\n{\"sender\": \n[]\n{\"message\": 1}\n{\"sender\": 2, \"message\": 1}\n",
    );
    text.extend_from_slice(b"{\"sender\": \"\", \"message\": 1}\n{\"sender\": \"a\"}\n\xff\xfe\n");
    text.extend_from_slice(message("a", "two").as_bytes());
    place.write("input.jsonl", text);
    let ended = place.process(&[]);
    let results = ended.results(1);
    assert_each_once_in_order(&results, 2);
    assert_eq!(results[1]["message"], "two");
    ended.says(
        1,
        &[
            "input.jsonl, line 3: it is not JSON (",
            "input.jsonl, line 4: it is not a JSON object; write one such as",
            "input.jsonl, line 5: the field \"sender\" is missing",
            "input.jsonl, line 6: the field \"sender\" is not text",
            "input.jsonl, line 7: the field \"sender\" holds an invalid conversation id",
            "input.jsonl, line 8: the field \"message\" is missing",
            "input.jsonl, line 9: byte 1 is not UTF-8",
            "lines that are no messages   7",
            "messages                     2",
        ],
    );
    assert!(!ended.stderr.contains("line 1:") && !ended.stderr.contains("line 10:"));
}

#[test]
fn errors_are_shown_also_when_it_is_quiet() {
    let place = Place::new();
    place.write("input.jsonl", "broken\n");
    let ended = place.process(&["--quiet"]);
    ended.says(1, &["input.jsonl, line 1: it is not JSON"]);
    assert_eq!(ended.stderr.lines().count(), 1);
}

#[test]
fn nothing_in_nothing_out() {
    let place = Place::new();
    place.write("input.jsonl", "");
    let ended = place.process(&[]);
    assert!(ended.results(0).is_empty());
    ended.says(
        0,
        &[
            "messages                     0",
            "conversations                0",
        ],
    );
}

#[test]
fn standard_input_is_read_as_it_comes() {
    for arguments in [&["-"][..], &[]] {
        let place = Place::new();
        let mut running = place.start(place.command(arguments).stdin(Stdio::piped()));
        write_to(&mut running, &message("a", "one"));
        // It is answered although the input goes on.
        until("the first result", || place.read("stdout").ends_with('\n'));
        assert!(running.is_running());
        write_to(&mut running, message("a", "two").trim_end());
        drop(running.child().stdin.take());
        let results = running.ended().results(0);
        assert_each_once_in_order(&results, 2);
    }
}

#[test]
fn the_id_may_be_in_another_field() {
    let place = Place::new();
    place.write(
        "input.jsonl",
        "{\"user\": \"u\", \"message\": 1}\n{\"user\": \"u\", \"message\": 2, \"sender\": 5}\n",
    );
    let results = place.process(&["--id-field", "user"]).results(0);
    assert_eq!(results[0]["sender"], "u");
    assert_eq!(results[1]["sender"], 5);
    assert_eq!(results[1]["user"], "u");
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_use() {
    let place = Place::new();
    place
        .process(&[])
        .says(2, &["cannot read input.jsonl", "No such file"]);
    std::fs::create_dir(place.path("input.jsonl")).unwrap();
    place
        .process(&[])
        .says(2, &["cannot read input.jsonl: it is a directory"]);
}

#[test]
fn the_summary_counts() {
    let place = Place::new();
    place.messages((0..30).map(|i| (["a", "b", "c"][i % 3], i.to_string())));
    let ended = place.process(&[]);
    ended.says(
        0,
        &[
            "messages                     30\n",
            "conversations                3\n",
            "errors                       0\n",
            "lines that are no messages   0\n",
            "messages per second ",
            "median ",
            "99th percentile ",
            "most conversations at once ",
        ],
    );
    let quiet = place.process(&["--quiet"]);
    quiet.says(0, &[]);
    assert_eq!(quiet.stderr, "");
}
