//! The locks: lost ones, turns that do not come, and their configuration.

mod common;

use common::Place;

#[test]
fn a_lost_lock_is_an_error_of_its_message() {
    let place = Place::new();
    place.messages(["0", "1"].map(|text| ("a", text.to_owned())));
    let script = "grep -q '\"0\"' && { sleep 1000; touch survived; }; echo well";
    let options = ["--lifetime", "3", "--keep-alive=false"];
    let results = place.process_with(&options, script).results(1);
    assert_eq!(results[0]["status"], "error");
    let error = results[0]["error"].to_string();
    assert!(error.contains("lost the lock of conversation"), "{error}");
    assert_eq!(results[1]["response"], "well");
    assert!(!place.path("survived").exists());
}

#[test]
fn a_lock_is_kept_alive_unless_told_otherwise() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    // Three lifetimes.
    let script = "sleep 9; echo well";
    let results = place.process_with(&["--lifetime", "3"], script).results(0);
    assert_eq!(results[0]["response"], "well");
}

/// All wait for the only slot for longer than a lease, and lose their locks
/// meanwhile; they take new tickets, and stay in order.
#[test]
fn a_lock_that_is_lost_before_its_message_was_begun_is_taken_again() {
    let place = Place::new();
    let names = ["a", "b", "c"];
    place.messages((0..12).map(|i| (names[i % 3], i.to_string())));
    let options = [
        "--lifetime",
        "0.3",
        "--keep-alive=false",
        "--concurrency",
        "1",
    ];
    let script = "sleep 0.2; echo well";
    let ended = place.process_with(&options, script);
    // On a slow machine a command may lose its own lock; none is missing.
    let code = ended.status.code().unwrap_or(99);
    assert!(code <= 1, "{}", ended.stderr);
    let results = ended.results(code);
    common::assert_each_once_in_order(&results, 12);
    // The conversation that was last to get the slot had four tickets, 0 to 3.
    assert!(
        results
            .iter()
            .any(|result| result["ticket"].as_u64() > Some(3))
    );
}

#[test]
fn a_turn_that_does_not_come_in_time_is_an_error() {
    let place = Place::new();
    place.messages(["0", "1"].map(|text| ("a", text.to_owned())));
    // The second has waited for thirty times its wait timeout.
    let ended = place.process_with(&["--wait-timeout", "0.1"], "sleep 3");
    let results = ended.results(1);
    common::assert_each_once_in_order(&results, 2);
    assert_eq!(results[0]["status"], "ok");
    let error = results[1]["error"].to_string();
    assert!(error.contains("timed out waiting for the lock"), "{error}");
    assert!(results[1]["ticket"].is_null());
}

#[test]
fn a_wrong_configuration_is_told() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    place.write("endpoints.yml", "lock_store:\n  lock_lifetme: 30\n");
    let wrong = ["endpoints.yml", "line 2: lock_store.lock_lifetme"];
    let ended = place.process(&[]);
    ended.says(2, &wrong);
    assert_eq!(ended.stdout, "");
    place.write("other.yml", "lock_store:\n  type: in_memory\n");
    place.process(&["--endpoints", "other.yml"]).results(0);
    place
        .process(&["--endpoints", "missing.yml"])
        .says(2, &["cannot read missing.yml"]);
}

#[test]
fn the_environment_counts() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    let mut command = place.command(["input.jsonl"]);
    let ended = place
        .start(command.env("TICKET_LOCK_LIFETIME", "soon"))
        .ended();
    ended.says(2, &["TICKET_LOCK_LIFETIME"]);
}

#[test]
fn times_have_a_range() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    for option in ["--lifetime=0", "--wait-timeout=-1", "--lifetime=soon"] {
        place
            .process(&[option])
            .says(2, &["it must be a number of seconds from"]);
    }
    place
        .process(&["--timeout", "5"])
        .says(2, &["--timeout needs something that takes time"]);
}
