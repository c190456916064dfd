//! Locks in Redis, beside what else a user might take, in one run on a server
//! of its own:
//!
//!     cargo bench -p lock-store --bench redis -- --quick
//!
//! `scripts/bench-redis` runs it with Rasa's own lock store beside it. What is
//! printed are the tables of `docs/BENCHMARKS.md`.
//!
//! Every round measures everything once, so that noise hits all alike. Figures
//! are medians of the rounds; ratios are medians of the rounds' ratios.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod calls;
mod contender;
mod figures;
mod hand_off;
mod options;
mod presence;
mod rasa;
mod report;
mod server;
mod steps;
mod uncontended;

use std::time::{Duration, Instant};

use lock_store::LockStore;
use tokio::runtime::{Builder, Runtime};

use contender::{Contender, Rslock};
use figures::{Figures, Kind, p99_of};
use hand_off::{Line, line_name};
use options::Options;
use rasa::Rasa;
use server::Watched;
use steps::Queues;
use uncontended::Contenders;

const TASKS: [usize; 3] = [1, 64, 512];
const IDLE: usize = 1_000;
/// How long a message of a burst is handled.
const WORK: Duration = Duration::from_millis(50);

pub(crate) const LATENCY: &str = "latency";
pub(crate) const RATE: Kind = Kind("rate");
/// CPU time of a lock and its release.
pub(crate) const CLIENT: Kind = Kind("client");
pub(crate) const SERVER: Kind = Kind("server");
pub(crate) const HAND_OFF: Kind = Kind("hand-off");
pub(crate) const BURST: &str = "burst";
pub(crate) const BURST_TIME: &str = "time of a burst";
pub(crate) const IN_MEMORY: Kind = Kind("in memory");

/// Everything that is measured in rounds.
struct Bench {
    options: Options,
    server: Watched,
    rasa: Option<Rasa>,
    runtime: Runtime,
    figures: Figures,
}

/// What was seen once, besides the figures.
pub(crate) struct Seen {
    /// Commands per second of idle waiters: of one conversation, of as many.
    idle: [f64; 2],
    keys_left: Vec<String>,
    channels_left: usize,
    product: String,
}

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    let begun = Instant::now();
    let server = Watched::start();
    let runtime = if options.threads == 0 {
        Builder::new_current_thread().enable_all().build()
    } else {
        let threads = options.threads;
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build()
    };
    let script = options.rasa.as_ref();
    let mut bench = Bench {
        rasa: script.map(|script| Rasa::start(script, server.port())),
        runtime: runtime.unwrap(),
        figures: Figures::default(),
        server,
        options,
    };
    // Alone, as it counts all commands.
    let idle = [(1, IDLE), (IDLE, 1)].map(|(conversations, waiters)| {
        eprintln!("{waiters} idle waiters of each of {conversations} conversations");
        let (server, time) = (&bench.server, bench.options.idle);
        let url = server.url();
        let idle = presence::idle(&url, server, conversations, waiters, time);
        bench.runtime.block_on(idle)
    });
    bench.rounds();
    let seen = Seen {
        idle,
        keys_left: bench.server.keys(),
        channels_left: bench.server.command(&["PUBSUB", "CHANNELS"]).list().len(),
        product: bench.server.product(),
    };
    report::print(&bench, &seen);
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
}

impl Bench {
    fn rounds(&mut self) {
        eprintln!("filling queues");
        let url = self.server.url();
        let (contenders, mut lines, mut queues) =
            self.runtime.block_on(prepare(&url, &self.options));
        for round in 1..=self.options.rounds {
            eprintln!("round {round} of {}", self.options.rounds);
            self.one_task(&contenders);
            self.many_tasks(&contenders, round);
            lines = self.hand_offs(&contenders, lines);
            self.bursts(&contenders);
            self.server_side(&contenders, &mut queues, round);
            self.in_memory();
        }
        self.runtime.block_on(async {
            for line in lines {
                line.break_up().await;
            }
            for queues in queues {
                queues.empty().await;
            }
            contenders.ours.close().await.unwrap();
            drop(contenders);
            // Subscriptions end with their connections.
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    }

    fn one_task(&mut self, contenders: &Contenders) {
        let measure = uncontended::latency(contenders.clone(), self.options.cycles);
        let times = in_a_task(&self.runtime, measure);
        for (name, times) in uncontended::NAMES.into_iter().zip(times) {
            self.figures.add_times(LATENCY, name, times);
        }
    }

    fn many_tasks(&mut self, contenders: &Contenders, round: usize) {
        for tasks in TASKS {
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => self.rate(&contenders.ours, tasks),
                    1 => self.rate(&contenders.bare, tasks),
                    _ => self.rate(&contenders.rslock, tasks),
                }
            }
            if let Some(rasa) = &self.rasa {
                let [rate, median, p99] =
                    rasa.cycles("redis", tasks, self.options.slice.as_secs_f64());
                self.figures.add(RATE.of(tasks), rasa::NAME, rate);
                if tasks == 1 {
                    self.figures.add(LATENCY, rasa::NAME, median);
                    self.figures.add(p99_of(LATENCY), rasa::NAME, p99);
                }
            }
        }
    }

    fn rate<C: Contender>(&mut self, contender: &C, tasks: usize) {
        let (server, time) = (&self.server, self.options.slice);
        let rate = uncontended::rate(contender, server, tasks, time);
        let [rate, client, server] = self.runtime.block_on(rate);
        for (what, figure) in [(RATE, rate), (CLIENT, client), (SERVER, server)] {
            self.figures.add(what.of(tasks), C::NAME, figure);
        }
    }

    fn hand_offs(&mut self, contenders: &Contenders, lines: Vec<Line>) -> Vec<Line> {
        let hand_offs = self.options.hand_offs;
        let mut kept = Vec::with_capacity(lines.len());
        for mut line in lines {
            let pass_on = async move {
                let times = line.pass_on(hand_offs).await;
                (line, times)
            };
            let (line, times) = in_a_task(&self.runtime, pass_on);
            self.figures
                .add_times(&HAND_OFF.of(line.name()), LockStore::NAME, times);
            kept.push(line);
        }
        for (waiters, hand_offs) in [(2, hand_offs / 10), (100, hand_offs / 2)] {
            let polled = hand_off::polled(&contenders.rslock, waiters, hand_offs);
            let times = self.runtime.block_on(polled);
            let what = HAND_OFF.of(line_name(1, waiters));
            self.figures.add_times(&what, Rslock::NAME, times);
        }
        kept
    }

    fn bursts(&mut self, contenders: &Contenders) {
        let messages = self.options.messages;
        self.burst(&contenders.ours, messages);
        self.burst(&contenders.rslock, messages);
        if let Some(rasa) = &self.rasa {
            let (times, elapsed) = rasa.burst(messages, WORK.as_secs_f64());
            let times = times
                .into_iter()
                .map(|us| Duration::from_secs_f64(us / 1e6));
            self.figures.add_times(BURST, rasa::NAME, times.collect());
            self.figures.add(BURST_TIME, rasa::NAME, elapsed);
        }
    }

    fn burst<C: Contender>(&mut self, contender: &C, messages: usize) {
        let burst = hand_off::burst(contender, messages, WORK);
        let (times, elapsed) = self.runtime.block_on(burst);
        self.figures.add_times(BURST, C::NAME, times);
        self.figures.add(BURST_TIME, C::NAME, elapsed.as_secs_f64());
    }

    fn server_side(&mut self, contenders: &Contenders, queues: &mut [Queues], round: usize) {
        let Self {
            options,
            server,
            runtime,
            figures,
            ..
        } = self;
        let Contenders {
            mut ours,
            mut bare,
            mut rslock,
            ..
        } = contenders.clone();
        runtime.block_on(async {
            for queues in queues {
                queues.measure(server, options.steps, figures).await;
            }
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => one_by_one(&mut ours, server, options, figures).await,
                    1 => one_by_one(&mut bare, server, options, figures).await,
                    _ => one_by_one(&mut rslock, server, options, figures).await,
                }
            }
        });
        if let Some(rasa) = &self.rasa {
            // One after the other, in Python.
            presence::held_by_rasa(rasa, server, options.locks / 10, figures);
        }
        calls::measure(server, options.loops, figures);
    }

    /// The two stores that are for one process.
    fn in_memory(&mut self) {
        let Some(rasa) = &self.rasa else { return };
        let seconds = self.options.slice.as_secs_f64();
        let ours = LockStore::in_memory();
        for tasks in [1, 64] {
            let [theirs, ..] = rasa.cycles("memory", tasks, seconds);
            self.figures
                .add(IN_MEMORY.of(tasks), rasa::IN_MEMORY, theirs);
            let rate = uncontended::rate(&ours, &self.server, tasks, self.options.slice);
            let [rate, ..] = self.runtime.block_on(rate);
            self.figures.add(IN_MEMORY.of(tasks), LockStore::NAME, rate);
        }
    }
}

/// Locks of many conversations, one after the other.
async fn one_by_one<C: Contender>(
    contender: &mut C,
    server: &Watched,
    options: &Options,
    figures: &mut Figures,
) {
    steps::alone(contender, server, options.locks / 10, figures).await;
    presence::held(contender, server, options.locks, figures).await;
}

async fn prepare(url: &str, options: &Options) -> (Contenders, Vec<Line>, Vec<Queues>) {
    let contenders = Contenders::connect(url).await;
    let one = [contenders.ours.clone()];
    let two = [contenders.ours.clone(), contender::store(url).await];
    let mut lines = Vec::new();
    for waiters in options.waiters {
        lines.push(Line::form(&one, waiters).await);
        lines.push(Line::form(&two, waiters).await);
    }
    let mut queues = Vec::new();
    for waiters in options.queued {
        queues.push(Queues::fill(url, options.queues, waiters).await);
    }
    (contenders, lines, queues)
}

/// Runs it where the tasks of a service run.
fn in_a_task<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(runtime.spawn(work)).unwrap()
}
