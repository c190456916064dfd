//! `lock-store watch`: all locks, live.
//!
//! `looker` asks Redis, `model` keeps what that comes to. On a terminal `app`
//! is what is shown and about to be done, `keys` change it, `view` draws it,
//! and `live` is the loop around them; elsewhere `lines` writes the figures.

mod app;
mod keys;
mod lines;
mod live;
mod lock;
mod looker;
mod model;
mod order;
mod pen;
#[cfg(test)]
mod samples;
mod signals;
mod terminal;
mod text;
#[cfg(debug_assertions)]
mod trigger;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Instant;

use anyhow::bail;

use crate::args::WatchArgs;
use crate::connection::Fleet;
use crate::log::Log;
use crate::screen::Screen;
use live::Live;
use looker::{Looker, News};

/// The terminal or the output failed.
const FAILED: u8 = 1;

/// Watches, and returns the exit code.
pub(crate) async fn run(args: WatchArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    // An error at the start says it all.
    let held = log.hold();
    let fleet = Fleet::open(&args.connection, "watch").await?;
    held.show();
    let start = Instant::now();
    let mut looker = Looker::start(fleet.redis.clone(), args.interval, start);
    let first = looker.next().await?;
    if let News::Away(why) = &first {
        bail!("the locks cannot be seen: {why}");
    }
    let ended = if args.plain || args.json || !terminal::is_there() {
        lines::run(looker, &args, first, screen).await
    } else {
        // What is logged would be written over the picture.
        let held = io::stderr().is_terminal().then(|| log.hold_all());
        let live = Live::new(fleet, looker, start, args.count);
        let ended = live.run(first).await;
        if let Some(held) = held {
            held.show();
        }
        ended
    };
    ended.or_else(|error| {
        screen.say(format_args!("error: {error:#}"));
        Ok(FAILED)
    })
}
