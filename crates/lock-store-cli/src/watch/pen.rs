//! Writing lines in a thread of its own: a reader that stands still holds up
//! the lines, and no signal.

use std::io::{self, Write};
use std::thread;

use tokio::sync::mpsc;

pub(super) struct Pen {
    lines: mpsc::Sender<String>,
    written: mpsc::Receiver<io::Result<()>>,
}

impl Pen {
    pub(super) fn start(mut target: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, mut taken) = mpsc::channel::<String>(1);
        let (done, written) = mpsc::channel(1);
        // It ends with the process, in a write that nobody takes too.
        thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                while let Some(line) = taken.blocking_recv() {
                    if done
                        .blocking_send(target.write_all(line.as_bytes()))
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Self { lines, written })
    }

    /// Begins to write a line. [`Pen::written`] is to be awaited before the
    /// next.
    pub(super) async fn begin(&self, line: String) {
        // The thread takes lines until this is dropped.
        let _ = self.lines.send(line).await;
    }

    /// What became of the line. May be dropped at any point.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        let gone = || Err(io::Error::other("the thread that writes has ended"));
        self.written.recv().await.unwrap_or_else(gone)
    }
}
