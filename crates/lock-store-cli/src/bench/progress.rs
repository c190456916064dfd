//! How far it has come, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

use super::clock;
use super::plan::{Part, Plan};
use super::worker::Order;
use crate::screen::Screen;

const EVERY: Duration = Duration::from_millis(100);

/// A bar over all parts, or nothing.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    part_length: u64,
    parts_done: u64,
}

impl Progress {
    pub(super) fn new(screen: &Screen, plan: &Plan, quiet: bool) -> Self {
        let part_length = clock::nanos(plan.warm_up + plan.length);
        let bar = (Screen::is_terminal() && !quiet).then(|| {
            let bar = screen.bar().clone();
            bar.set_length(part_length * plan.parts().count() as u64);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}%  {msg}") {
                bar.set_style(style);
            }
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar
        });
        Self {
            bar,
            part_length,
            parts_done: 0,
        }
    }

    /// Shows it while a part is measured.
    pub(super) async fn during<T>(
        &mut self,
        order: Order,
        measuring: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(measuring);
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                biased;
                measured = &mut measuring => {
                    self.parts_done += 1;
                    return measured;
                }
                _ = ticks.tick(), if self.bar.is_some() => self.show(order),
            }
        }
    }

    fn show(&self, Order { part, window }: Order) {
        let Some(bar) = &self.bar else { return };
        let now = clock::now();
        let left = window.until.saturating_sub(now);
        let done = self.part_length.saturating_sub(left);
        bar.set_position(self.part_length * self.parts_done + done);
        let name = match part {
            Part::OneTask => "one task",
            Part::Load => "load",
            Part::HandOff => "hand-off",
        };
        let warm_up = if now < window.from { ", warm-up" } else { "" };
        bar.set_message(format!("{name}{warm_up}"));
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
