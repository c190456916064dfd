//! Reading: lines are split and understood on a thread of their own, as
//! reading may block for as long as nobody types.

use std::io::{self, Read};
use std::thread;

use tokio::sync::mpsc;

use super::message::Message;

/// The longest line that is a message.
const LONGEST_LINE: usize = 16 << 20;

const CHUNK: usize = 64 << 10;

/// How many chunks are understood ahead of the one that is dispatched.
const CHUNKS_AHEAD: usize = 2;

/// A line that was read.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// How many bytes were read up to its end.
    pub(crate) end: u64,
    /// What is wrong, if it is not a message.
    pub(crate) content: Result<Message, String>,
}

/// The lines of the input that are not blank.
pub(crate) struct Input {
    chunks: mpsc::Receiver<io::Result<Vec<Line>>>,
    chunk: std::vec::IntoIter<Line>,
}

impl Input {
    pub(crate) fn start(source: Box<dyn Read + Send>, id_field: String) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let mut splitter = Splitter::new(source, id_field);
        // Never joined: it may be reading when all else has come to its end.
        thread::Builder::new().name("input".into()).spawn(move || {
            while let Some(chunk) = splitter.next_chunk().transpose() {
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self {
            chunks,
            chunk: Vec::new().into_iter(),
        })
    }

    /// The next line; `None` at the end. May be dropped at any point; then no
    /// line is lost.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Line>> {
        loop {
            if let Some(line) = self.chunk.next() {
                return Some(Ok(line));
            }
            match self.chunks.recv().await? {
                Ok(chunk) => self.chunk = chunk.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Splits what is read into lines.
struct Splitter<R> {
    source: R,
    buffer: Box<[u8]>,
    id_field: String,
    /// What there is of the current line.
    line: Vec<u8>,
    /// Whether the current line is longer than is kept.
    too_long: bool,
    lines: u64,
    messages: u64,
    bytes: u64,
    ended: bool,
}

impl<R: Read> Splitter<R> {
    fn new(source: R, id_field: String) -> Self {
        Self {
            source,
            buffer: vec![0; CHUNK].into(),
            id_field,
            line: Vec::new(),
            too_long: false,
            lines: 0,
            messages: 0,
            bytes: 0,
            ended: false,
        }
    }

    /// The lines that end in what one read returns, so that nobody who types
    /// a line waits for the next one.
    fn next_chunk(&mut self) -> io::Result<Option<Vec<Line>>> {
        if self.ended {
            return Ok(None);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = loop {
            match self.source.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        }?;
        let mut lines = Vec::new();
        for part in buffer[..read].split_inclusive(|&byte| byte == b'\n') {
            self.bytes += part.len() as u64;
            self.append(part);
            if part.ends_with(b"\n") {
                lines.extend(self.end_line());
            }
        }
        if read == 0 {
            self.ended = true;
            // The last line may lack its line feed.
            if self.too_long || !self.line.is_empty() {
                lines.extend(self.end_line());
            }
        }
        self.buffer = buffer;
        Ok(Some(lines))
    }

    fn append(&mut self, part: &[u8]) {
        let text = part.strip_suffix(b"\n").unwrap_or(part);
        self.too_long |= self.line.len() + text.len() > LONGEST_LINE;
        if self.too_long {
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(text);
        }
    }

    fn end_line(&mut self) -> Option<Line> {
        self.lines += 1;
        let mut text = self.line.as_slice();
        if self.lines == 1 {
            // Some editors begin a file with a mark that it is UTF-8.
            text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        }
        let content = if std::mem::take(&mut self.too_long) {
            Err(format!(
                "it is longer than {LONGEST_LINE} bytes; write a shorter message"
            ))
        } else if text.iter().all(u8::is_ascii_whitespace) {
            self.line.clear();
            return None;
        } else {
            Message::parse(text, self.messages, &self.id_field)
        };
        self.line.clear();
        self.messages += u64::from(content.is_ok());
        Some(Line {
            number: self.lines,
            end: self.bytes,
            content,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that returns at most `at_once` bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    fn lines(text: &[u8], at_once: usize) -> Vec<Line> {
        let mut splitter = Splitter::new(Slowly(text, at_once), "sender".into());
        let mut lines = Vec::new();
        while let Some(chunk) = splitter.next_chunk().unwrap() {
            lines.extend(chunk);
        }
        lines
    }

    #[test]
    fn lines_and_messages_are_numbered_apart() {
        let text = "\u{feff}{\"sender\": \"a\", \"message\": 1}\r\n\n  \nbroken\n\
                    {\"sender\": \"b\", \"message\": 2}";
        for at_once in [1, 3, 1000] {
            let lines = lines(text.as_bytes(), at_once);
            let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
            assert_eq!(numbers, [1, 4, 5]);
            assert_eq!(lines[0].content.as_ref().unwrap().seq, 0);
            assert!(lines[1].content.is_err());
            assert_eq!(lines[2].content.as_ref().unwrap().seq, 1);
            assert_eq!(lines[2].end, text.len() as u64);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_not_kept() {
        let mut text = vec![b'x'; LONGEST_LINE + 1];
        text.extend_from_slice(b"\n{\"sender\": \"a\", \"message\": 1}\n");
        let lines = lines(&text, usize::MAX);
        let error = lines[0].content.as_ref().unwrap_err();
        assert!(error.contains("longer than 16777216 bytes"), "{error}");
        assert!(lines[1].content.is_ok());
    }

    #[test]
    fn nothing_is_read_from_nothing() {
        assert!(lines(b"", 10).is_empty());
        assert!(lines(b"\n\n", 10).is_empty());
    }
}
