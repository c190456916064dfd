//! What became of a message, and its line in the output.

use std::time::Duration;

use serde::Serializer;
use serde::ser::{Serialize, SerializeMap as _};
use serde_json::value::RawValue;

use super::handler::Response;
use super::message::Message;

/// The fields that are ours, whatever the input has by these names.
const OURS: [&str; 8] = [
    "seq",
    "ticket",
    "fencing_token",
    "waited_ms",
    "held_ms",
    "status",
    "response",
    "error",
];

/// What became of a message.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The number on its ticket and its fencing token, if its turn came.
    pub(crate) turn: Option<(u64, u64)>,
    pub(crate) waited: Duration,
    pub(crate) held: Duration,
    pub(crate) response: Response,
}

impl Outcome {
    /// The line, with its line feed.
    pub(crate) fn line(&self, message: &Message) -> Vec<u8> {
        let fields = message.fields();
        let line = OutcomeLine {
            outcome: self,
            message,
            fields: fields.iter().map(|(name, value)| (name.as_str(), &**value)),
        };
        let mut text = Vec::with_capacity(message.line.len() + 256);
        if let Err(error) = serde_json::to_writer(&mut text, &line) {
            // Neither its names nor memory as a writer can fail.
            tracing::error!(seq = message.seq, %error, "a result cannot be written as JSON");
        }
        text.push(b'\n');
        text
    }
}

struct OutcomeLine<'m, F> {
    outcome: &'m Outcome,
    message: &'m Message,
    fields: F,
}

impl<'m, F> Serialize for OutcomeLine<'m, F>
where
    F: Iterator<Item = (&'m str, &'m RawValue)> + Clone,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut has_sender = false;
        for (name, value) in self.fields.clone() {
            has_sender |= name == "sender";
            if !OURS.contains(&name) {
                map.serialize_entry(name, value)?;
            }
        }
        if !has_sender {
            map.serialize_entry("sender", self.message.id.as_str())?;
        }
        let (ticket, fencing_token) = self.outcome.turn.unzip();
        map.serialize_entry("seq", &self.message.seq)?;
        map.serialize_entry("ticket", &ticket)?;
        map.serialize_entry("fencing_token", &fencing_token)?;
        map.serialize_entry("waited_ms", &milliseconds(self.outcome.waited))?;
        map.serialize_entry("held_ms", &milliseconds(self.outcome.held))?;
        match &self.outcome.response {
            Ok(response) => {
                map.serialize_entry("status", "ok")?;
                map.serialize_entry("response", response)?;
            }
            Err(error) => {
                map.serialize_entry("status", "error")?;
                map.serialize_entry("error", error)?;
            }
        }
        map.end()
    }
}

/// With three decimals.
fn milliseconds(time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)] // exact for 285 years
    let microseconds = time.as_micros() as f64;
    microseconds / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(input: &str, id_field: &str, response: Response) -> String {
        let outcome = Outcome {
            turn: Some((3, 1_763_920_000_000_001)),
            waited: Duration::from_nanos(1_234_567),
            held: Duration::from_millis(20),
            response,
        };
        let message = Message::parse(input.as_bytes(), 5, id_field).unwrap();
        String::from_utf8(outcome.line(&message)).unwrap()
    }

    fn json(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn the_fields_of_the_input_come_first_as_they_were() {
        assert_eq!(
            line(
                r#"{"sender": "ä", "n": 1.50, "message": {"b":1, "a":2}}"#,
                "sender",
                Ok(json("[1]"))
            ),
            "{\"sender\":\"ä\",\"n\":1.50,\"message\":{\"b\":1, \"a\":2},\"seq\":5,\"ticket\":3,\
             \"fencing_token\":1763920000000001,\"waited_ms\":1.234,\"held_ms\":20.0,\
             \"status\":\"ok\",\"response\":[1]}\n"
        );
    }

    #[test]
    fn ours_win() {
        let line = line(
            r#"{"sender": "a", "seq": 99, "response": "old", "message": 1, "status": "x"}"#,
            "sender",
            Err("broken \"badly\"".into()),
        );
        assert!(line.contains(r#""seq":5"#) && !line.contains("99"));
        assert!(!line.contains("old") && !line.contains("response"));
        assert!(line.ends_with("\"status\":\"error\",\"error\":\"broken \\\"badly\\\"\"}\n"));
    }

    #[test]
    fn the_sender_is_kept_or_set() {
        let kept = line(
            r#"{"sender": 7, "user": "u", "message": 1}"#,
            "user",
            Ok(json("1")),
        );
        assert!(kept.starts_with(r#"{"sender":7,"user":"u","message":1,"seq":5"#));
        let set = line(r#"{"user": "u", "message": 1}"#, "user", Ok(json("1")));
        assert!(set.starts_with(r#"{"user":"u","message":1,"sender":"u","seq":5"#));
    }
}
