//! Progress: a bar on a terminal, elsewhere a line every few seconds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::summary::Tally;
use crate::screen::Screen;

const ON_A_TERMINAL: Duration = Duration::from_millis(100);
const ELSEWHERE: Duration = Duration::from_secs(5);

const BAR: &str = "{wide_bar} {percent}%  {msg}";
const SPINNER: &str = "{spinner} {msg}";

/// Shows how far it has come.
pub(crate) struct Progress {
    screen: Screen,
    bar: Option<ProgressBar>,
    ticks: Option<Interval>,
}

impl Progress {
    /// `bytes` is the length of the input, if that is known.
    pub(crate) fn new(screen: &Screen, bytes: Option<u64>, quiet: bool) -> Self {
        let every = if Screen::is_terminal() {
            ON_A_TERMINAL
        } else {
            ELSEWHERE
        };
        let first = tokio::time::Instant::now() + every;
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            screen: screen.clone(),
            bar: (Screen::is_terminal() && !quiet).then(|| shown(screen.bar(), bytes)),
            ticks: (!quiet).then_some(ticks),
        }
    }

    /// Resolves when it is time to show it. May be dropped at any point.
    pub(crate) async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    pub(crate) fn show(&self, tally: &Tally, in_progress: &InProgress) {
        let text = format!(
            "{} messages done, {} in progress, {} errors",
            tally.messages_done(),
            in_progress.now(),
            tally.errors()
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(tally.bytes_read());
                bar.set_message(text);
                bar.tick();
            }
            None => self.say(format_args!("{text}")),
        }
    }

    /// Writes a line, above the bar if there is one.
    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        self.screen.say(line);
    }

    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn shown(bar: &ProgressBar, bytes: Option<u64>) -> ProgressBar {
    if let Some(bytes) = bytes {
        bar.set_length(bytes);
    }
    let template = if bytes.is_some() { BAR } else { SPINNER };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.clone()
}

/// How many conversations have a message that is being processed. A
/// conversation has at most one, so messages are counted.
#[derive(Debug, Default)]
pub(crate) struct InProgress {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A message that is being processed, for as long as it is not dropped.
pub(crate) struct Begun(Arc<Counts>);

impl InProgress {
    pub(crate) fn begin(&self) -> Begun {
        let now = self.counts.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.counts.most.fetch_max(now, Ordering::Relaxed);
        Begun(self.counts.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.counts.now.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> usize {
        self.counts.most.load(Ordering::Relaxed)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
