//! What each call inside a script costs the server: a loop of calls, less the
//! same loop without them.

use std::fmt::Write as _;

use crate::figures::{Figures, figure, head, row};
use crate::server::Watched;

const LOOPS: usize = 1000;

/// An element as a queue has it, and what stands before all bodies.
const LOCALS: &str = "
local call, key, string, now = redis.call, KEYS[1], string, 1763920000500000
local element = '00c0ffee00c0ffee.42 60000000 60000000 0 1763920000500000 1763920000500000 C'
local names = {} for i = 1, 1000 do names[i] = key .. i end
";

/// A call: how it is called, what is there before, and the code.
struct Call(&'static str, Before, &'static str);

/// What is there before.
enum Before {
    Nothing,
    /// A list of ten elements, with a time to live.
    Ten,
    /// A list of so many elements as the loop takes.
    Thousand,
    /// As many lists of one element.
    Keys,
    /// As many strings.
    Strings,
}

const CALLS: [Call; 30] = [
    Call("TIME", Before::Nothing, "call('TIME')"),
    Call("LLEN", Before::Ten, "call('LLEN', key)"),
    Call("LINDEX 0", Before::Ten, "call('LINDEX', key, 0)"),
    Call(
        "LINDEX '0', a text",
        Before::Ten,
        "call('LINDEX', key, '0')",
    ),
    Call("LRANGE 0 1", Before::Ten, "call('LRANGE', key, 0, 1)"),
    Call(
        "LRANGE '0' '1', texts",
        Before::Ten,
        "call('LRANGE', key, '0', '1')",
    ),
    Call("LSET 0", Before::Ten, "call('LSET', key, 0, element)"),
    Call(
        "LSET '0', a text",
        Before::Ten,
        "call('LSET', key, '0', element)",
    ),
    Call(
        "RPUSH, a new list",
        Before::Nothing,
        "call('RPUSH', names[i], element)",
    ),
    Call("RPUSH", Before::Ten, "call('RPUSH', key, element)"),
    Call("RPOP", Before::Thousand, "call('RPOP', key)"),
    Call("LPOP", Before::Thousand, "call('LPOP', key)"),
    Call("LPOP, the last one", Before::Keys, "call('LPOP', names[i])"),
    Call(
        "DEL, of a list of one",
        Before::Keys,
        "call('DEL', names[i])",
    ),
    Call("PTTL", Before::Ten, "call('PTTL', key)"),
    Call(
        "PEXPIRE, the first",
        Before::Keys,
        "call('PEXPIRE', names[i], 60000)",
    ),
    Call("PEXPIRE, again", Before::Ten, "call('PEXPIRE', key, 60000)"),
    Call(
        "PEXPIRE '60000', a text",
        Before::Ten,
        "call('PEXPIRE', key, '60000')",
    ),
    Call(
        "SET PX, a new key",
        Before::Nothing,
        "call('SET', names[i], element, 'PX', 60000)",
    ),
    Call(
        "SET KEEPTTL",
        Before::Strings,
        "call('SET', names[i], element, 'KEEPTTL')",
    ),
    Call("GET", Before::Strings, "call('GET', names[i])"),
    Call("DEL, of a text", Before::Strings, "call('DEL', names[i])"),
    Call(
        "PUBLISH, nobody listens",
        Before::Nothing,
        "call('PUBLISH', names[i], element)",
    ),
    Call(
        "string.format('%.0f')",
        Before::Nothing,
        "local text = string.format('%.0f', now + i)",
    ),
    Call(
        "an element put together from 7 texts",
        Before::Nothing,
        "local text = names[i] .. ' ' .. '60000000' .. ' ' .. '60000000' .. ' ' .. '0' .. ' ' \
         .. '1763920000500000' .. ' ' .. '1763920000500000' .. ' ' .. 'C'",
    ),
    Call(
        "an element matched, 7 captures",
        Before::Nothing,
        "local a, b, c, d, e, f, g = string.match(element, \
         '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) ([WPC])$')",
    ),
    Call(
        "one capture matched: the owner",
        Before::Nothing,
        "local owner = string.match(element, '^%S+')",
    ),
    Call(
        "string.sub, and compared",
        Before::Nothing,
        "local same = string.sub(element, 1, 20) == names[i]",
    ),
    Call(
        "tonumber, of 16 digits",
        Before::Nothing,
        "local n = tonumber('1763920000500000')",
    ),
    Call(
        "a table of 9 fields",
        Before::Nothing,
        "local t = { owner = key, lifetime = 1, span = 2, number = 3, token = 4, since = 5, \
         state = 6, dies = 7, i = i }",
    ),
];

/// Whole scripts, which are called once each: what they do, and the code.
const SCRIPTS: [(&str, &str); 6] = [
    ("an empty script", ""),
    ("one that answers 1", "return 1"),
    (
        "one that answers a text of 16 digits",
        "return '1763920000500000'",
    ),
    (
        "one that answers {1, 2, 3, 4, 5, {}, {}}",
        "return {1, 2, 3, 4, 5, {}, {}}",
    ),
    ("one that defines 12 functions", ""),
    (
        "SET NX PX and GET of it, DEL: the bare pair inside a script",
        "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 60000) \
         if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end",
    ),
];

const WHAT: &str = "call";

/// A round of all of them.
pub(crate) fn measure(server: &Watched, repetitions: usize, figures: &mut Figures) {
    for (name, code) in SCRIPTS {
        let mut code = code.to_owned();
        if name.contains("12 functions") {
            for i in 0..12 {
                let _ = writeln!(code, "local function f{i}(a) return a .. KEYS[1] end");
            }
        }
        let each = loops_of(server, &code, &Before::Nothing, repetitions * 100);
        figures.add(WHAT, name, each);
    }
    for Call(name, before, body) in &CALLS {
        let code = |body: &str| format!("{LOCALS} for i = 1, {LOOPS} do {body} end");
        let with = loops_of(server, &code(body), before, repetitions);
        let without = loops_of(server, &code(""), before, repetitions);
        #[allow(clippy::cast_precision_loss)]
        let each = (with - without) / LOOPS as f64;
        figures.add(WHAT, name, each);
    }
}

/// Microseconds of a script, on the average.
fn loops_of(server: &Watched, code: &str, before: &Before, repetitions: usize) -> f64 {
    let (one, thousand) = ("call('RPUSH', key, element)", "for i = 1, 1000 do");
    let setup = match before {
        Before::Nothing => String::new(),
        Before::Ten => format!("for i = 1, 10 do {one} end call('PEXPIRE', key, 60000)"),
        Before::Thousand => format!("{thousand} {one} end"),
        Before::Keys => format!("{thousand} call('RPUSH', names[i], element) end"),
        Before::Strings => format!("{thousand} call('SET', names[i], element, 'PX', 60000) end"),
    };
    let setup = format!("{LOCALS} call('FLUSHDB') {setup}");
    let load = |code: &str| server.command(&["SCRIPT", "LOAD", code]).text();
    let hash = load(code);
    let run = |command, script: &str| {
        let arguments = [command, script, "1", "bench:calls", "00c0ffee00c0ffee.42"];
        let reply = server.command(&arguments);
        assert!(!reply.is_error(""), "{script}: {reply:?}");
    };
    // The calls have a database of their own.
    server.command(&["SELECT", "9"]).ok();
    run("EVAL", &setup);
    // The first ones of a script are slower.
    for _ in 0..=repetitions / 10 {
        run("EVALSHA", &hash);
    }
    let begun = server.done("evalsha");
    for _ in 0..repetitions {
        if code.starts_with(LOCALS) {
            run("EVAL", &setup);
        }
        run("EVALSHA", &hash);
    }
    let done = server.done("evalsha").since(begun);
    server.command(&["FLUSHDB"]).ok();
    server.command(&["SELECT", "0"]).ok();
    done.micros_each()
}

pub(crate) fn print(figures: &Figures) {
    head(
        "what a script costs the server, µs",
        &["called once, with a key and an argument", "µs"],
    );
    for (name, _) in SCRIPTS {
        row(&[name, &figure(figures.median(WHAT, name))]);
    }
    head(
        "what each call inside a script costs the server, µs",
        &["in a loop of 1,000", "µs"],
    );
    for Call(name, ..) in CALLS {
        row(&[name, &figure(figures.median(WHAT, name))]);
    }
}
