//! The tables.

use lock_store::LockStore;

use crate::contender::{BarePair, Contender, Ping, Rslock};
use crate::figures::{Figures, figure, head, p99_of, row, thousands};
use crate::hand_off::line_name;
use crate::options::Options;
use crate::{
    BURST, BURST_TIME, Bench, CLIENT, HAND_OFF, IDLE, IN_MEMORY, LATENCY, RATE, SERVER, Seen,
    TASKS, WORK,
};
use crate::{calls, presence, rasa, steps};

const OURS: &str = LockStore::NAME;
/// All that lock in Redis.
const LOCKS: [&str; 4] = [OURS, BarePair::NAME, Rslock::NAME, rasa::NAME];

pub(crate) fn print(bench: &Bench, seen: &Seen) {
    let figures = &bench.figures;
    let runtime = match bench.options.threads {
        0 => "one thread".to_owned(),
        threads => format!("{threads} worker threads"),
    };
    println!(
        "{}, on the same machine; tokio with {runtime}; {} rounds.",
        seen.product, bench.options.rounds
    );
    one_task(figures);
    many_tasks(figures);
    computing(figures);
    hand_offs(figures, bench.options.waiters);
    burst(figures, bench.options.messages);
    server_steps(figures, bench.options.queued);
    presence(figures, seen);
    if bench.rasa.is_some() {
        in_memory(figures);
    }
    calls::print(figures);
    targets(figures, seen, &bench.options);
}

fn one_task(figures: &Figures) {
    let columns = ["", "median, µs", "p99, µs", "ours / this"];
    head("lock and release, one task", &columns);
    for name in [LOCKS.as_slice(), &[Ping::NAME]].concat() {
        let ratio = figures.ratio((LATENCY, OURS), (LATENCY, name));
        row(&[
            name.to_owned(),
            figure(figures.median(LATENCY, name)),
            figure(figures.median(p99_of(LATENCY), name)),
            beside(name, ratio),
        ]);
    }
}

fn many_tasks(figures: &Figures) {
    head(
        "locks and releases per second, each task on its own conversation",
        &[
            "",
            "1 task",
            "64 tasks",
            "512 tasks",
            "ours / this, 64 tasks",
            "512 tasks",
        ],
    );
    for name in LOCKS {
        let mut cells = vec![name.to_owned()];
        cells.extend(TASKS.map(|tasks| figure(figures.median(RATE.of(tasks), name))));
        cells.extend([64, 512].map(|tasks| {
            let what = RATE.of(tasks);
            beside(name, figures.ratio((&what, OURS), (&what, name)))
        }));
        row(&cells);
    }
}

fn computing(figures: &Figures) {
    head(
        "CPU time of a lock and its release, µs",
        &[
            "",
            "client, 1 task",
            "64",
            "512",
            "server, 1 task",
            "64",
            "512",
        ],
    );
    for name in &LOCKS[..3] {
        let mut cells = vec![(*name).to_owned()];
        for what in [CLIENT, SERVER] {
            cells.extend(TASKS.map(|tasks| figure(figures.median(what.of(tasks), name))));
        }
        row(&cells);
    }
}

fn hand_offs(figures: &Figures, waiters: [usize; 3]) {
    let columns = ["", "median, µs", "p99, µs", "/ PING"];
    head("release → the next holder runs", &columns);
    let line = |text: String, stores, waiters, name| {
        let what = HAND_OFF.of(line_name(stores, waiters));
        row(&[
            text,
            figure(figures.median(&what, name)),
            figure(figures.median(p99_of(&what), name)),
            figure(figures.ratio((&what, name), (LATENCY, Ping::NAME))),
        ]);
    };
    for (stores, of) in [(1, "of one client"), (2, "of two clients, in turn")] {
        for waiters in waiters {
            let text = format!("{OURS}, {} waiters {of}", thousands(waiters));
            line(text, stores, waiters, OURS);
        }
    }
    for waiters in [2, 100] {
        let text = format!("{}, {waiters} waiters", Rslock::NAME);
        line(text, 1, waiters, Rslock::NAME);
    }
}

fn burst(figures: &Figures, messages: usize) {
    let (title, least) = (
        format!("{messages} messages of one conversation at once, {WORK:?} each"),
        WORK.as_secs_f64() * count(messages),
    );
    head(
        &title,
        &[
            "",
            "from one to the next, median, ms",
            "the longest, ms",
            "all, s",
        ],
    );
    let ms = |micros: Option<f64>| figure(micros.map(|micros| micros / 1e3));
    for name in [OURS, Rslock::NAME, rasa::NAME] {
        row(&[
            name.to_owned(),
            ms(figures.median(BURST, name)),
            // Of so few the 99th percentile is the longest.
            ms(figures.median(p99_of(BURST), name)),
            figure(figures.median(BURST_TIME, name)),
        ]);
    }
    row(&["the handling alone", "0", "0", &figure(Some(least))]);
}

fn server_steps(figures: &Figures, queued: [usize; 2]) {
    let [few, many] = queued.map(|waiters| format!("{} waiters", thousands(waiters)));
    let columns = ["", &few, &many, "ratio"];
    head("server time of a step, µs", &columns);
    for (step, name) in steps::STEPS {
        let what = steps::SERVER.of(step);
        row(&[
            name.to_owned(),
            figure(figures.median(&what, queued[0])),
            figure(figures.median(&what, queued[1])),
            figure(figures.ratio((&what, queued[1]), (&what, queued[0]))),
        ]);
    }
    let columns = ["", "lock", "release", "both, ours / this"];
    head("server time when nobody else is there, µs", &columns);
    let both = |name| {
        let [lock, release] = steps::ALONE.map(|step| figures.median(steps::SERVER.of(step), name));
        Some(lock? + release?)
    };
    for name in &LOCKS[..3] {
        let [lock, release] = steps::ALONE.map(|step| figures.median(steps::SERVER.of(step), name));
        let ratio = both(OURS).zip(both(name)).map(|(ours, this)| ours / this);
        row(&[
            (*name).to_owned(),
            figure(lock),
            figure(release),
            beside(name, ratio),
        ]);
    }
}

fn presence(figures: &Figures, seen: &Seen) {
    let columns = ["", "bytes, with what goes with a key", "the key itself"];
    head("memory of the server for a held lock", &columns);
    for name in LOCKS {
        row(&[
            name.to_owned(),
            figure(figures.median(presence::MEMORY, name)),
            figure(figures.median(presence::MEMORY_OF_KEY, name)),
        ]);
    }
    let columns = ["", "commands per second"];
    head(&format!("{} idle waiters", thousands(IDLE)), &columns);
    row(&["of one conversation", &figure(Some(seen.idle[0]))]);
    row(&["of as many conversations", &figure(Some(seen.idle[1]))]);
}

fn in_memory(figures: &Figures) {
    head(
        "in memory: locks and releases per second",
        &["", "1 task", "64 tasks"],
    );
    for name in [OURS, rasa::IN_MEMORY] {
        let rates = [1, 64].map(|tasks| figure(figures.median(IN_MEMORY.of(tasks), name)));
        let [one, many] = rates;
        row(&[name.to_owned(), one, many]);
    }
}

fn targets(figures: &Figures, seen: &Seen, options: &Options) {
    println!("\n**targets**\n\n| what | target | measured | |\n|---|---|---:|---|");
    let at_most = |what: &str, limit: f64, unit: &str, values: &[Option<f64>]| {
        target(what, "at most", limit, unit, values, |value| value <= limit);
    };
    let at_least = |what: &str, limit: f64, values: &[Option<f64>]| {
        target(what, "at least", limit, " ×", values, |value| {
            value >= limit
        });
    };
    let latency = figures.ratio((LATENCY, OURS), (LATENCY, BarePair::NAME));
    at_most(
        "lock + release, one task, beside the bare pair",
        1.05,
        " ×",
        &[latency],
    );
    let what = RATE.of(64);
    let rate = |other| figures.ratio((&what, OURS), (&what, other));
    at_least(
        "64 tasks on 64 conversations, beside the bare pair",
        0.85,
        &[rate(BarePair::NAME)],
    );
    at_least("the same, beside `rslock`", 1.2, &[rate(Rslock::NAME)]);
    let lines = [1, 2].into_iter().flat_map(|stores| {
        options.waiters.map(|waiters| {
            let what = HAND_OFF.of(line_name(stores, waiters));
            figures.ratio((what, OURS), (LATENCY, Ping::NAME))
        })
    });
    at_most(
        "release → next holder runs, median, beside `PING`",
        2.5,
        " ×",
        &lines.collect::<Vec<_>>(),
    );
    let steps = steps::STEPS.map(|(step, _)| {
        let (what, [few, many]) = (steps::SERVER.of(step), options.queued);
        figures.ratio((&what, many), (&what, few))
    });
    at_most(
        "server time per step, 10,000 waiters against 10",
        1.2,
        " ×",
        &steps,
    );
    at_most(
        "commands per second from 1,000 idle waiters",
        10.0,
        "",
        &seen.idle.map(Some),
    );
    at_most(
        "keys left when all is done",
        0.0,
        "",
        &[Some(count(seen.keys_left.len()))],
    );
    at_most("channels left", 0.0, "", &[Some(count(seen.channels_left))]);
    for key in seen.keys_left.iter().take(10) {
        eprintln!("left: {key}");
    }
}

fn target(
    what: &str,
    than: &str,
    limit: f64,
    unit: &str,
    values: &[Option<f64>],
    is_met: impl Fn(f64) -> bool,
) {
    let mut values: Vec<_> = values.iter().flatten().copied().collect();
    values.sort_unstable_by(f64::total_cmp);
    let measured = match values[..] {
        [] => "–".to_owned(),
        [value] => format!("{}{unit}", short(value)),
        [least, .., most] => format!("{}–{}{unit}", short(least), short(most)),
    };
    let outcome = match values.iter().all(|value| is_met(*value)) {
        _ if values.is_empty() => "not measured",
        true => "met",
        false => "missed",
    };
    let target = format!("{than} {}{unit}", short(limit));
    row(&[what, &target, &measured, outcome]);
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// A ratio of ours to another's.
fn beside(name: &str, ratio: Option<f64>) -> String {
    if name == OURS || ratio.is_none() {
        return String::new();
    }
    figure(ratio)
}

#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}
