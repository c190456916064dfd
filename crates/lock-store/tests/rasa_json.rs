//! Rasa's JSON form: what Rasa 3.6 wrote is read, and what is written Rasa can
//! read.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use lock_store::{ConversationId, LockErrorKind, TicketLock, TicketState, Timestamp};

/// Written by Rasa 3.6.20's `TicketLock.dumps`.
const RASA: &str = r#"{"conversation_id": "6a", "tickets": ["{\"number\": 3, \"expires\": 1763920000.512345}", "{\"number\": 4, \"expires\": 1763920001}"]}"#;

#[test]
fn what_rasa_wrote_is_read() {
    let lock = TicketLock::from_json(RASA).unwrap();
    assert_eq!(lock.conversation_id().as_str(), "6a");
    let tickets: Vec<_> = lock.tickets().cloned().collect();
    assert_eq!(tickets.iter().map(|t| t.number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(
        tickets[0].expires,
        Timestamp::from_micros(1_763_920_000_512_345)
    );
    assert_eq!(tickets[0].state, TicketState::Claimed);
    assert_eq!(tickets[1].state, TicketState::Waiting);
    assert!(tickets[0].fencing_token < tickets[1].fencing_token);
    assert!(tickets.iter().all(|ticket| ticket.owner.is_none()));

    let before = Timestamp::from_micros(1_763_920_000_000_000);
    assert_eq!(lock.now_serving(before), Some(3));
    assert_eq!(lock.last_issued(before), Some(4));
    let between = Timestamp::from_micros(1_763_920_000_600_000);
    assert_eq!(lock.now_serving(between), Some(4));
    let after = Timestamp::from_micros(1_763_920_001_000_000);
    assert_eq!(
        (lock.now_serving(after), lock.last_issued(after)),
        (None, None)
    );
}

#[test]
fn an_empty_lock_is_as_in_rasa() {
    let lock = TicketLock::from_json(r#"{"conversation_id": "a", "tickets": []}"#).unwrap();
    let now = Timestamp::now();
    assert!(!lock.is_someone_waiting());
    assert!(!lock.is_locked(0, now));
    assert!(lock.is_locked(1, now));
    assert!(lock.has_lock_expired(0, now));
    assert_eq!(lock.to_json(), r#"{"conversation_id":"a","tickets":[]}"#);
}

/// Rasa's own reading, word for word what its `from_dict` does with the JSON.
#[test]
fn what_is_written_rasa_can_read() {
    let mut lock = TicketLock::new(ConversationId::new("ä \"quoted\"\n").unwrap());
    let now = Timestamp::from_micros(1_763_920_000_512_345);
    lock.issue_ticket(Duration::from_secs(60), now);
    lock.issue_ticket(Duration::from_millis(1500), now);
    let reader = "import json, sys\n\
        data = json.loads(sys.argv[1])\n\
        tickets = [json.loads(d) for d in data.get('tickets')]\n\
        print(ascii(data.get('conversation_id')))\n\
        print([(t['number'], t['expires']) for t in tickets])";
    let python = Command::new("python3")
        .args(["-c", reader, &lock.to_json()])
        .output();
    let python = python.expect("python3 is there");
    assert!(python.status.success(), "{python:?}");
    assert_eq!(
        String::from_utf8(python.stdout).unwrap(),
        "'\\xe4 \"quoted\"\\n'\n[(0, 1763920060.512345), (1, 1763920002.012345)]\n"
    );
}

#[test]
fn what_is_damaged_is_named() {
    for (text, named) in [
        ("", "not a lock in JSON"),
        ("[]", "not a lock in JSON"),
        (r#"{"conversation_id": "a"}"#, "missing field `tickets`"),
        (r#"{"conversation_id": "", "tickets": []}"#, "it is empty"),
        (
            r#"{"conversation_id": "a", "tickets": [1]}"#,
            "expected a string",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["x"]}"#,
            "ticket at index 0: not a ticket",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": -1, \"expires\": 1}"]}"#,
            "invalid value: integer `-1`",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": -5}"]}"#,
            "expires is -5, not a time",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": 5, \"owner\": \"me\"}"]}"#,
            "\"me\" is not an owner; one looks like",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": 5, \"state\": \"odd\"}"]}"#,
            "state is \"odd\"",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": 5, \"lifetime\": -1}"]}"#,
            "lifetime is -1, not a duration",
        ),
        (
            r#"{"conversation_id": "a", "tickets": ["{\"number\": 0, \"expires\": 5, \"fencing_token\": 7}", "{\"number\": 1, \"expires\": 5, \"fencing_token\": 7}"]}"#,
            "ticket at index 1: its fencing token does not rise",
        ),
    ] {
        let error = TicketLock::from_json(text).unwrap_err();
        assert_eq!(error.kind(), LockErrorKind::Corrupt, "{text}");
        assert!(error.to_string().contains(named), "{error} for {text}");
    }
}
