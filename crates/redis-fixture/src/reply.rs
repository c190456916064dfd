//! What a server replies, in the protocol RESP2.

use std::io::{self, BufRead};

/// The reply to a command. Its methods take it as what they are called, and
/// panic, telling the reply, when it is something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A status or a value.
    Text(Vec<u8>),
    /// Several replies.
    List(Vec<Reply>),
    /// An error, which begins with its code.
    Error(String),
}

impl Reply {
    /// The text, which must be UTF-8.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("a text in UTF-8")
    }

    /// The bytes of the text.
    #[track_caller]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(bytes) => bytes,
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The number.
    #[track_caller]
    pub fn integer(self) -> i64 {
        match self {
            Self::Integer(integer) => integer,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The replies in the list.
    #[track_caller]
    pub fn list(self) -> Vec<Reply> {
        match self {
            Self::List(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The texts in the list.
    #[track_caller]
    pub fn texts(self) -> Vec<String> {
        self.list().into_iter().map(Self::text).collect()
    }

    /// What follows `name` in a list of names and values.
    #[track_caller]
    pub fn field(self, name: &str) -> Option<Reply> {
        let mut list = self.list().into_iter();
        list.by_ref()
            .step_by(2)
            .position(|reply| reply == name)
            .map(drop)?;
        list.next()
    }

    /// The message of the error.
    #[track_caller]
    pub fn error(self) -> String {
        match self {
            Self::Error(message) => message,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// Asserts that it is the status `OK`.
    #[track_caller]
    pub fn ok(self) {
        assert!(self.is_ok(), "not OK: {self:?}");
    }

    /// Whether it is the status `OK`.
    pub fn is_ok(&self) -> bool {
        *self == *"OK"
    }

    /// Whether it is nothing.
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }

    /// Whether it is an error that begins so.
    pub fn is_error(&self, code: &str) -> bool {
        matches!(self, Self::Error(message) if message.starts_with(code))
    }

    /// Reads one.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let line = read_line(from)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
        Ok(match kind {
            "+" => Self::Text(rest.as_bytes().to_vec()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Integer(number(rest)?),
            "$" => match usize::try_from(number(rest)?) {
                Err(_) => Self::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    from.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Self::Text(bytes)
                }
            },
            "*" => match usize::try_from(number(rest)?) {
                Err(_) => Self::Nil,
                Ok(length) => Self::List(
                    (0..length)
                        .map(|_| Self::read(from))
                        .collect::<io::Result<_>>()?,
                ),
            },
            _ => return Err(malformed(&line)),
        })
    }
}

impl PartialEq<str> for Reply {
    fn eq(&self, text: &str) -> bool {
        matches!(self, Self::Text(bytes) if bytes == text.as_bytes())
    }
}

impl PartialEq<&str> for Reply {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

/// A line without its end.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        // An error may quote bytes of any kind.
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| malformed(text))
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP2: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> Reply {
        let reply = Reply::read(&mut text).unwrap();
        assert!(text.is_empty(), "{reply:?} leaves {text:?}");
        reply
    }

    #[test]
    fn every_kind_is_read() {
        assert_eq!(read(b"+OK\r\n"), "OK");
        assert_eq!(read(b":-3\r\n").integer(), -3);
        assert_eq!(read(b"$5\r\na\r\nbc\r\n").text(), "a\r\nbc");
        assert_eq!(read(b"-ERR no\r\n").error(), "ERR no");
        assert!(read(b"$-1\r\n").is_nil());
        assert!(read(b"*-1\r\n").is_nil());
        let nested = read(b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n").list();
        assert_eq!(nested[0], Reply::List(vec![Reply::Integer(1)]));
        assert_eq!(nested[1], "a");
    }

    #[test]
    fn a_broken_one_is_an_error() {
        for text in ["", "+OK", "$5\r\nab\r\n", "*1\r\n", "!?\r\n", "\r\n"] {
            assert!(Reply::read(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_name_only() {
        let texts = ["a", "b", "b", "c"].map(|text| Reply::Text(text.into()));
        let reply = Reply::List(texts.to_vec());
        assert_eq!(reply.clone().field("b").unwrap(), "c");
        assert_eq!(reply.field("c"), None);
    }
}
