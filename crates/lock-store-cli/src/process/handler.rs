//! Processing a message: a command, a server, or an echo.

mod command;
mod post;

use std::time::Duration;

use lock_store::{LockError, LockGuard};
use serde_json::value::{RawValue, to_raw_value};

pub(crate) use command::{Command, kill_all};
pub(crate) use post::Post;

use super::message::Message;

/// The longest response.
const LONGEST_RESPONSE: usize = 16 << 20;

/// What processes the messages.
pub(crate) enum Handler {
    /// The response is the message.
    Echo,
    Command(Command),
    Post(Post),
}

/// The response, or why there is none.
pub(crate) type Response = Result<Box<RawValue>, String>;

impl Handler {
    /// Processes a message under its lock. When the lock is lost the work is
    /// stopped.
    pub(crate) async fn handle(&self, message: &Message, guard: &LockGuard) -> Response {
        let response = match self {
            Self::Echo => Ok(echo(message)),
            Self::Command(command) => command.run(message, guard).await,
            Self::Post(post) => post.send(message, guard).await,
        };
        if guard.is_lost() {
            // Its end may have come after that of the lease.
            return Err(unprotected(&guard.lost().await, response));
        }
        response
    }
}

/// The lock was lost before the response was there, for all we know.
fn unprotected(loss: &LockError, response: Response) -> String {
    match response {
        Ok(response) => format!("{loss}; its response was {response}"),
        Err(error) if error == loss.to_string() => error,
        Err(error) => format!("{loss}; and {error}"),
    }
}

fn echo(message: &Message) -> Box<RawValue> {
    let mut fields = message.fields();
    fields
        .swap_remove("message")
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Until when a message may be processed.
struct Limit<'g> {
    timeout: Option<Duration>,
    guard: &'g LockGuard,
}

impl Limit<'_> {
    /// Resolves when processing has to stop, and says why.
    async fn exceeded(&self) -> String {
        let timed_out = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.guard.lost() => error.to_string(),
            () = timed_out => {
                let seconds = self.timeout.unwrap_or_default().as_secs_f64();
                format!("not done after {seconds} s; allow more with --timeout")
            }
        }
    }
}

/// A response as JSON where it is JSON, else as text.
fn json_or_text(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    // Line feeds stand between the tokens of JSON, never in them; the output
    // has to be one line.
    RawValue::from_string(text.replace(['\n', '\r'], " ")).unwrap_or_else(|_| {
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_json_where_it_is_json() {
        for (bytes, expected) in [
            (&b"[1,\r\n 2]\n"[..], "[1,   2]"),
            (b" 1e999\n", "1e999"),
            (b"hello\n", "\"hello\""),
            (b"two\nlines\r\n", "\"two\\nlines\""),
            (b"", "\"\""),
            (b"\xff", "\"\u{fffd}\""),
        ] {
            assert_eq!(json_or_text(bytes).get(), expected);
        }
    }
}
