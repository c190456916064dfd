//! Writing: on a thread of its own, as writing may block for as long as
//! nobody reads.

use std::io::{self, Write};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::stop::{Reason, Stop};

/// How many lines are ready ahead of the one that is being written.
const LINES_AHEAD: usize = 64;

/// How much is written at once, in bytes.
const AT_ONCE: usize = 64 << 10;

/// Takes lines, and writes them in the order in which it took them.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    lines: mpsc::Sender<Vec<u8>>,
}

/// What became of the lines, known when every [`Output`] is dropped.
pub(crate) struct Written {
    lost: oneshot::Receiver<Option<Lost>>,
}

/// Lines that could not be written.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) lines: u64,
    pub(crate) error: io::Error,
}

impl Output {
    pub(crate) fn start(
        target: impl Write + Send + 'static,
        stop: Stop,
    ) -> io::Result<(Self, Written)> {
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        let (ended, lost) = oneshot::channel();
        thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                // Whoever does not wait for the end does not want to know.
                let _ = ended.send(write_all(target, lines, &stop));
            })?;
        Ok((Self { lines: sender }, Written { lost }))
    }

    /// Hands a line over, which settles its place in the output.
    pub(crate) async fn write(&self, line: Vec<u8>) {
        // The thread takes lines until every `Output` is dropped.
        let _ = self.lines.send(line).await;
    }
}

impl Written {
    pub(crate) async fn lost(self) -> Option<Lost> {
        self.lost.await.unwrap_or_else(|_| {
            let error = io::Error::other("the thread that writes has ended");
            Some(Lost { lines: 0, error })
        })
    }
}

/// Writes until there are no more. After a failure lines are only counted,
/// and no more messages are begun.
fn write_all(
    mut target: impl Write,
    mut lines: mpsc::Receiver<Vec<u8>>,
    stop: &Stop,
) -> Option<Lost> {
    let mut lost: Option<Lost> = None;
    while let Some(mut batch) = lines.blocking_recv() {
        let mut count = 1;
        while batch.len() < AT_ONCE
            && let Ok(line) = lines.try_recv()
        {
            batch.extend_from_slice(&line);
            count += 1;
        }
        if let Some(lost) = &mut lost {
            lost.lines += count;
        } else if let Err((written, error)) = write_lines(&mut target, &batch) {
            let lines = count - written;
            lost = Some(Lost { lines, error });
            stop.because(Reason::Output);
        }
    }
    lost
}

/// Upon an error, says how many lines were written whole.
fn write_lines(target: &mut impl Write, batch: &[u8]) -> Result<(), (u64, io::Error)> {
    let mut written = 0;
    let mut write = || {
        while written < batch.len() {
            match target.write(&batch[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        target.flush()
    };
    write().map_err(|error| {
        let whole = batch[..written].split(|&byte| byte == b'\n').count() - 1;
        (whole as u64, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Takes(usize);

    impl Write for Takes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted() {
        let stop = Stop::new();
        let (output, written) = Output::start(Takes(10), stop.clone()).unwrap();
        for _ in 0..200 {
            output.write(b"1234\n".to_vec()).await;
        }
        drop(output);
        let lost = written.lost().await.unwrap();
        assert_eq!(lost.lines, 198);
        assert_eq!(lost.error.kind(), io::ErrorKind::BrokenPipe);
        assert!(matches!(stop.reason(), Some(Reason::Output)));
    }

    #[tokio::test]
    async fn lines_that_are_written_are_not() {
        let stop = Stop::new();
        let (output, written) = Output::start(Takes(1000), stop.clone()).unwrap();
        for _ in 0..200 {
            output.write(b"1234\n".to_vec()).await;
        }
        drop(output);
        assert!(written.lost().await.is_none());
        assert!(stop.reason().is_none());
    }
}
