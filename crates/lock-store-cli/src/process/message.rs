//! A message, as it stands in a line of the input.

use indexmap::IndexMap;
use lock_store::ConversationId;
use serde_json::value::RawValue;

/// The fields of a JSON object in their order, each as it was written.
pub(crate) type Fields = IndexMap<String, Box<RawValue>, ahash::RandomState>;

const EXAMPLE: &str = r#"{"sender": "anna", "message": "Hello"}"#;

/// A message. Its line is kept as it was read, for whoever processes it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: ConversationId,
    /// Its number among the messages of the input, from 0.
    pub(crate) seq: u64,
    pub(crate) line: Box<str>,
}

impl Message {
    /// Understands a line, or says what is wrong with it and what would be
    /// right.
    pub(crate) fn parse(line: &[u8], seq: u64, id_field: &str) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|error| {
            let valid = error.valid_up_to();
            format!("byte {} is not UTF-8; write it as UTF-8", valid + 1)
        })?;
        let line = line.trim();
        let fields = fields(line).map_err(|error| not_an_object(&error))?;
        let Some(id) = fields.get(id_field) else {
            return Err(format!(
                "the field {id_field:?} is missing; it must hold the conversation id \
                 (--id-field names another field)"
            ));
        };
        let id: String = serde_json::from_str(id.get()).map_err(|_| {
            format!("the field {id_field:?} is not text; it must hold the conversation id")
        })?;
        let id = ConversationId::new(&id)
            .map_err(|error| format!("the field {id_field:?} holds an {error}"))?;
        if !fields.contains_key("message") {
            return Err("the field \"message\" is missing; it may hold any JSON".into());
        }
        Ok(Self {
            id,
            seq,
            line: line.into(),
        })
    }

    pub(crate) fn fields(&self) -> Fields {
        // It was understood when it was read.
        fields(&self.line).unwrap_or_default()
    }
}

fn fields(line: &str) -> serde_json::Result<Fields> {
    serde_json::from_str(line)
}

fn not_an_object(error: &serde_json::Error) -> String {
    if error.is_data() {
        return format!("it is not a JSON object; write one such as {EXAMPLE}");
    }
    // The line that it means is always the first.
    let error = error
        .to_string()
        .replace(" at line 1 column ", " at column ");
    format!("it is not JSON ({error}); write one object per line, such as {EXAMPLE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &[u8]) -> String {
        Message::parse(line, 0, "sender").unwrap_err()
    }

    #[test]
    fn a_message_keeps_its_line() {
        let line = r#" {"x": 1e999, "sender": "a", "message": null} "#;
        let message = Message::parse(line.as_bytes(), 7, "sender").unwrap();
        assert_eq!(message.id.as_str(), "a");
        assert_eq!(message.seq, 7);
        assert_eq!(&*message.line, line.trim());
        assert_eq!(message.fields()["x"].get(), "1e999");
    }

    #[test]
    fn the_id_may_be_in_another_field() {
        let line = br#"{"sender": 1, "user": "b", "message": "x"}"#;
        assert_eq!(Message::parse(line, 0, "user").unwrap().id.as_str(), "b");
    }

    #[test]
    fn each_mistake_is_named() {
        for (line, what) in [
            (
                &b"{\"sender\": \"a\""[..],
                "not JSON (EOF while parsing an object at column 14)",
            ),
            (b"[1]", "not a JSON object"),
            (b"\"text\"", "not a JSON object"),
            (b"{\"message\": 1}", "\"sender\" is missing"),
            (b"{\"sender\": 5, \"message\": 1}", "\"sender\" is not text"),
            (b"{\"sender\": \"\", \"message\": 1}", "1 to 1024 bytes"),
            (b"{\"sender\": \"a\"}", "\"message\" is missing"),
            (b"{\"sender\": \"\xff\"}", "byte 13 is not UTF-8"),
        ] {
            let error = wrong(line);
            assert!(error.contains(what), "{error}");
        }
        let long = format!(r#"{{"sender": "{}", "message": 1}}"#, "x".repeat(1025));
        assert!(wrong(long.as_bytes()).contains("1 to 1024 bytes"));
    }
}
