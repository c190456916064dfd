//! Commands: their responses, their failures, their time.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, until};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

fn one(script: &str, options: &[&str], code: i32) -> (Place, Value) {
    let place = Place::new();
    place.messages([("anna", "hello".to_owned())]);
    let mut results = place.process_with(options, script).results(code);
    assert_eq!(results.len(), 1);
    (place, results.remove(0))
}

#[test]
fn output_is_the_response_as_json_or_as_text() {
    assert_eq!(
        one("echo '{\"a\":'; echo '[1]}'", &[], 0).1["response"],
        json!({"a": [1]})
    );
    assert_eq!(
        one("echo good morning", &[], 0).1["response"],
        "good morning"
    );
    assert_eq!(one("true", &[], 0).1["response"], "");
}

#[test]
fn it_gets_the_line_and_the_environment() {
    let place = Place::new();
    let line = r#"{"sender": "ä b",  "message": {"x": 1.50}, "metadata": [1]}"#;
    place.write("input.jsonl", line);
    let script = "cat > got; echo \"$LOCK_STORE_CONVERSATION_ID/$LOCK_STORE_TICKET/\
                  $LOCK_STORE_FENCING_TOKEN\"";
    let results = place.process_with(&[], script).results(0);
    assert_eq!(place.read("got"), format!("{line}\n"));
    let token = results[0]["fencing_token"].as_u64().unwrap();
    assert!(token > 1_700_000_000_000_000);
    assert_eq!(results[0]["response"], format!("ä b/0/{token}"));
    assert_eq!(results[0]["ticket"], 0);
    assert_eq!(results[0]["metadata"], json!([1]));
}

#[test]
fn a_failure_is_an_error_of_its_message_only() {
    let place = Place::new();
    place.messages(["a", "b", "a"].map(|name| (name, "hello".to_owned())));
    let script = "[ $LOCK_STORE_CONVERSATION_ID = a ] || exit 0; echo no such thing >&2; exit 3";
    let ended = place.process_with(&[], script);
    for result in ended.results(1) {
        if result["sender"] == "b" {
            assert_eq!(result["status"], "ok");
        } else {
            assert_eq!(result["status"], "error");
            assert_eq!(
                result["error"],
                "the command failed (exit status: 3): no such thing"
            );
            assert!(result.get("response").is_none());
        }
    }
    ended.says(
        1,
        &[
            "messages                     3",
            "errors                       2",
        ],
    );
}

#[test]
fn death_by_a_signal_is_an_error() {
    let error = one("kill -9 $$", &[], 1).1["error"].to_string();
    assert!(error.contains("signal: 9"), "{error}");
}

#[test]
fn it_need_not_read_its_message() {
    let place = Place::new();
    place.messages([("a", "x".repeat(1 << 20))]);
    let results = place.process_with(&[], "exec <&-; echo done").results(0);
    assert_eq!(results[0]["response"], "done");
}

#[test]
fn much_goes_in_and_out_at_once() {
    let place = Place::new();
    place.messages([("a", "x".repeat(3 << 20))]);
    let results = place.process_with(&[], "cat").results(0);
    assert_eq!(results[0]["response"]["message"], results[0]["message"]);
}

#[test]
fn a_slow_one_is_killed_with_all_it_started() {
    let script = "sleep 1000 & echo $! > pid; wait";
    let (place, result) = one(script, &["--timeout", "4.5"], 1);
    assert_eq!(
        result["error"],
        "not done after 4.5 s; allow more with --timeout"
    );
    assert!(result["held_ms"].as_f64().unwrap() >= 4500.0);
    let pid = Pid::from_raw(place.read("pid").trim().parse().unwrap());
    // Nobody may reap it where process 1 does not: then it stays a zombie.
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        kill(pid, None) == Err(Errno::ESRCH) || state.contains(") Z ")
    };
    until("the command's child has ended", is_gone);
}

#[test]
fn a_quick_one_is_not_kept_by_a_timeout() {
    assert_eq!(one("echo 1", &["--timeout", "100"], 0).1["response"], 1);
}

#[test]
fn a_wrong_command_is_found_before_anything_is_read() {
    let place = Place::new();
    place.write("input.jsonl", "broken");
    let ended = place.process(&["--", "no-such-command-here"]);
    ended.says(
        2,
        &["error: the command no-such-command-here is in no folder of PATH"],
    );
    assert!(!ended.stderr.contains("line 1"));
}
