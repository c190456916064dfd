//! What a server replies.

use redis::{RedisError, RedisResult, Value};

use super::NoReply;

/// A reply to a raw command.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A whole number.
    Integer(i64),
    /// A status or a value; bytes that are no UTF-8 are replaced.
    Text(String),
    /// Several replies.
    List(Vec<Reply>),
    /// An error: its code, such as `NOPERM`, and its text.
    Error(String),
}

impl Reply {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one, also as a text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The replies in it; none if it is no list.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// The text of the error, if it is one.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }

    /// What follows `name` in a list of names and values.
    pub fn field(&self, name: &str) -> Option<&Reply> {
        let mut pairs = self.list().chunks_exact(2);
        let pair = pairs.find(|pair| pair[0].text() == Some(name))?;
        Some(&pair[1])
    }

    pub(super) fn read(answer: RedisResult<Value>) -> Result<Self, NoReply> {
        match answer {
            Ok(value) => Ok(Self::of(value)),
            Err(error) => match error.code() {
                Some(code) => Ok(Self::Error(text_of(code, error.detail()))),
                None => Err(NoReply::of(&error)),
            },
        }
    }

    fn of(value: Value) -> Self {
        let list = |values: Vec<Value>| Self::List(values.into_iter().map(Self::of).collect());
        match value {
            Value::Nil => Self::Nil,
            Value::Int(integer) => Self::Integer(integer),
            Value::Okay => Self::Text("OK".into()),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Self::Text(text),
            Value::BulkString(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::Array(values) | Value::Set(values) => list(values),
            Value::Map(pairs) => list(pairs.into_iter().flat_map(<[_; 2]>::from).collect()),
            Value::ServerError(error) => Self::Error(text_of(error.code(), error.details())),
            Value::Boolean(truth) => Self::Integer(i64::from(truth)),
            Value::Double(number) => Self::Text(number.to_string()),
            // Nothing that a server says in the protocol spoken here.
            other => Self::Text(format!("{other:?}")),
        }
    }
}

fn text_of(code: &str, details: Option<&str>) -> String {
    match details {
        Some(details) => format!("{code} {details}"),
        None => code.to_owned(),
    }
}

impl NoReply {
    pub(super) fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.kind() == redis::ErrorKind::Parse {
            Self::Nonsense
        } else if error.is_connection_dropped() && !error.is_connection_refusal() {
            Self::HungUp
        } else {
            Self::Other(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_only() {
        let texts = ["a", "b", "b", "7"].map(|text| Reply::Text(text.into()));
        let reply = Reply::List(texts.to_vec());
        assert_eq!(reply.field("b").and_then(Reply::integer), Some(7));
        assert_eq!(reply.field("7"), None);
    }
}
