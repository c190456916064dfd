//! `lock-store process`: messages in, results out.

mod conversation;
mod dispatch;
pub(crate) mod handler;
mod input;
pub(crate) mod interrupt;
mod message;
mod outcome;
mod output;
mod progress;
mod spool;
mod stop;
mod summary;
mod waiting;
mod window;

use std::time::Duration;

use anyhow::Context as _;
use lock_store::LockStore;
use tokio::sync::{Semaphore, mpsc};

use crate::screen::{Results, Screen};
use crate::settings::Settings;
use conversation::Shared;
use dispatch::Dispatcher;
use input::Input;
use interrupt::{Interrupts, exit_code};
use output::{Lost, Output};
use progress::{InProgress, Progress};
use stop::{NotBegun, Reason, Stop};
use summary::Tally;

/// How long a stop waits for tickets to be given back.
const SOON: Duration = Duration::from_secs(2);

/// Every message was processed.
const ALL_WELL: u8 = 0;
/// Some message was not, or its result could not be written.
const NOT_ALL_WELL: u8 = 1;

/// Processes all messages, and returns the exit code.
pub(crate) async fn run(settings: Settings, screen: &Screen) -> anyhow::Result<u8> {
    let stop = Stop::new();
    let interrupts = Interrupts::listen().context("signals cannot be listened to")?;
    tokio::select! {
        biased;
        signal = interrupts.stop_then_wait(&stop, screen) => {
            screen.bar().finish_and_clear();
            screen.say(format_args!("stopped at once; what was being processed was given up"));
            Ok(exit_code(signal))
        }
        code = run_to_the_end(settings, screen, &stop) => code,
    }
}

async fn run_to_the_end(settings: Settings, screen: &Screen, stop: &Stop) -> anyhow::Result<u8> {
    let Settings {
        source,
        store,
        tickets,
        handler,
        id_field,
        concurrency,
        read_ahead,
        quiet,
    } = settings;
    let progress = Progress::new(screen, source.bytes, quiet);
    let input = Input::start(source.reader, id_field).context("no thread to read")?;
    let (output, written) =
        Output::start(Results::open(screen)?, stop.clone()).context("no thread to write")?;
    let (done, processed) = mpsc::unbounded_channel();
    let shared = Shared {
        tickets,
        handler,
        slots: Semaphore::new(concurrency),
        output,
        in_progress: InProgress::default(),
        stop: stop.clone(),
        done,
    };
    let dispatcher = Dispatcher::new(store.clone(), read_ahead, shared, processed);
    let (tally, not_begun) = dispatcher.run(input, &source.name, progress).await;
    let lost = written.lost().await;
    close(&store, stop).await;
    let end = End {
        reason: stop.reason(),
        tally,
        not_begun,
        lost,
    };
    end.tell(screen, quiet);
    Ok(end.exit_code())
}

/// Waits until every ticket is given back, for a limited time: without Redis
/// the tickets expire. A stop shortens it.
async fn close(store: &LockStore, stop: &Stop) {
    let mut stopped = stop.listen();
    let closed = tokio::select! {
        biased;
        () = stopped.wait() => store.close_within(SOON).await,
        closed = store.close() => closed,
    };
    if let Err(error) = closed {
        tracing::warn!(target: "lock_store", %error, "closing the store");
    }
}

/// How it ended.
struct End {
    reason: Option<Reason>,
    tally: Tally,
    not_begun: NotBegun,
    lost: Option<Lost>,
}

impl End {
    fn tell(&self, screen: &Screen, quiet: bool) {
        if let Some(Lost { lines, error }) = &self.lost {
            screen.say(format_args!(
                "the output was closed ({error}): {lines} results could not be written"
            ));
        }
        if let Some(reason) = &self.reason {
            screen.say(format_args!(
                "{reason}: {}; the input was read up to line {}",
                self.not_begun,
                self.tally.lines_read()
            ));
        }
        if !quiet {
            screen.say(format_args!("{}", self.tally));
        }
    }

    fn exit_code(&self) -> u8 {
        match self.reason {
            Some(Reason::Signal(signal)) => exit_code(signal),
            None if self.tally.is_clean() && self.lost.is_none() => ALL_WELL,
            Some(Reason::Output | Reason::Failed(_)) | None => NOT_ALL_WELL,
        }
    }
}
