//! `lock-store bench`: what this Redis can do.
//!
//! `bench/plan` says what is measured, `bench/crew` asks this process or its
//! children, `bench/worker` does it (`bench/cycles`, `bench/hand_off`),
//! `bench/results` puts together what they found, and `bench/table`,
//! `bench/json` and `bench/plot` show it.

mod bins;
mod child;
mod clock;
mod crew;
mod cycles;
mod hand_off;
mod json;
mod measured;
mod picture;
mod plan;
mod plot;
mod progress;
mod results;
mod sweep;
mod table;
mod text;
mod times;
mod worker;

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use lock_store::{LockStoreConfig, StoreType};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::clock::Nanos;
use self::crew::Crew;
use self::picture::Picture;
use self::plan::Plan;
use self::progress::Progress;
use self::results::Results;
use self::sweep::{Swept, sweep};
use self::table::Table;
use self::worker::Worker;
use crate::args::BenchArgs;
use crate::connection;
use crate::log::Log;
use crate::process::interrupt::{Interrupts, exit_code};
use crate::screen::{Results as Stdout, Screen};

/// How long whoever wants to stop waits for tickets to be given back.
const SOON: Duration = Duration::from_secs(2);

/// Measured, without an error.
const ALL_WELL: u8 = 0;
/// Measured, and something failed.
const NOT_ALL_WELL: u8 = 1;

/// Measures, and returns the exit code.
pub(crate) async fn run(args: BenchArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    if args.worker {
        return child::run().await;
    }
    let config = connection::config(&args.connection)?;
    check(&args, &config)?;
    // Before there is a file that would be left behind.
    let mut interrupts = Interrupts::listen().context("signals cannot be listened to")?;
    let picture = args.plot.as_deref().map(Picture::at).transpose()?;
    let plan = Plan::new(&args);
    let held = log.hold();
    let here = tokio::select! {
        here = Worker::open(&config, plan.clone(), 0) => here?,
        signal = interrupts.next() => return Ok(exit_code(signal)),
    };
    held.show();

    let (halt, halted) = watch::channel(None);
    let begin = key_begin(&config, &plan);
    let bench = Bench {
        args,
        screen,
        here,
        halted,
    };
    let running = bench.run(plan, config, picture);
    tokio::pin!(running);
    let signal = tokio::select! {
        biased;
        signal = interrupts.next() => signal,
        code = &mut running => return code,
    };
    screen.say(format_args!(
        "stopping, and cleaning up; once more (Ctrl-C) stops at once"
    ));
    halt.send_replace(Some(Halt {
        at: clock::now(),
        signal,
    }));
    tokio::select! {
        biased;
        code = &mut running => code,
        signal = interrupts.next() => {
            screen.bar().finish_and_clear();
            screen.say(format_args!("stopped at once; {begin}"));
            Ok(exit_code(signal))
        }
    }
}

/// The end before the end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Halt {
    at: Nanos,
    signal: i32,
}

/// When to stop before the end, once that is known.
type Halted = watch::Receiver<Option<Halt>>;

/// What makes no sense together.
fn check(args: &BenchArgs, config: &LockStoreConfig) -> anyhow::Result<()> {
    if args.processes > 1 && config.store_type != StoreType::Redis {
        bail!(
            "the locks are in memory, where processes do not see each other's, so --processes {} \
             makes no sense; leave it out, or name a Redis with --redis redis://localhost:6379/1",
            args.processes
        );
    }
    Ok(())
}

/// What is said of keys that may be left.
fn key_begin(config: &LockStoreConfig, plan: &Plan) -> String {
    if config.store_type != StoreType::Redis {
        return "the locks were in memory, and are gone with it".into();
    }
    let prefix = config.redis.key_prefix.as_deref().unwrap_or("lock-store");
    let timing = &config.timing;
    let longest = timing
        .lock_lifetime
        .max(timing.wait_timeout.unwrap_or_default());
    format!(
        "keys of conversations {}-… under the prefix {prefix} may be left, and expire within {} s",
        plan.name,
        longest.as_secs_f64().ceil()
    )
}

struct Bench<'a> {
    args: BenchArgs,
    screen: &'a Screen,
    here: Worker,
    halted: Halted,
}

impl Bench<'_> {
    async fn run(
        self,
        plan: Plan,
        config: LockStoreConfig,
        picture: Option<Picture>,
    ) -> anyhow::Result<u8> {
        let begin = key_begin(&config, &plan);
        let limit = config.redis.socket_timeout + SOON;
        let address = self.here.redis().map(lock_store::RedisLockStore::address);
        let mut results = Results::new(plan, config, address);
        self.measure(&mut results).await?;
        self.here.close().await;

        let halt = *self.halted.borrow();
        results.interrupted = halt.map(|halt| halt.signal);
        let limit = if halt.is_some() { SOON } else { limit };
        results.swept = sweep(self.here.store(), &results.plan, limit).await;
        self.tell(&results, &begin, picture)?;
        Ok(match halt {
            Some(halt) => exit_code(halt.signal),
            None if results.is_well() => ALL_WELL,
            None => NOT_ALL_WELL,
        })
    }

    /// All parts, or those before it was halted.
    async fn measure(&self, results: &mut Results) -> anyhow::Result<()> {
        let plan = results.plan.clone();
        let mut crew = Crew::gather(&self.here, &plan, &self.args.connection).await?;
        let mut progress = Progress::new(self.screen, &plan, self.args.quiet);
        for part in plan.parts() {
            if self.halted.borrow().is_some() {
                break;
            }
            let mut order = crew.order(part, &plan);
            let measuring = crew.measure(order, &self.halted);
            let found = progress.during(order, measuring).await;
            if let Some(halt) = *self.halted.borrow() {
                let until = &mut order.window.until;
                *until = halt.at.clamp(order.window.from, *until);
            }
            results.add(part, order.window, found);
        }
        progress.end();
        crew.dismiss().await;
        Ok(())
    }

    fn tell(&self, results: &Results, begin: &str, picture: Option<Picture>) -> anyhow::Result<()> {
        match &results.swept {
            Swept::Clean { removed: 0 } => {}
            Swept::Clean { removed } => self.screen.say(format_args!(
                "removed the keys of {removed} conversations that were left"
            )),
            Swept::NotSure(why) => {
                let why = text::plain(why);
                self.screen
                    .say(format_args!("could not clean up ({why}): {begin}"));
            }
        }
        if results.interrupted.is_some() {
            self.screen
                .say(format_args!("interrupted: these are the results so far"));
        }
        let text = if self.args.json {
            format!("{:#}\n", json::document(results))
        } else {
            Table(results).to_string()
        };
        write_out(self.screen, &text)?;
        if let Some(picture) = picture {
            picture.save(&plot::draw(results))?;
        }
        Ok(())
    }
}

/// Onto standard output, unless nobody reads it.
fn write_out(screen: &Screen, text: &str) -> anyhow::Result<()> {
    let mut stdout = Stdout::open(screen)?;
    match stdout.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the results cannot be written")
        }
        _ => Ok(()),
    }
}
