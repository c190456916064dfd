//! The picture that `lock-store bench --plot` makes, and its progress.

#![allow(clippy::unwrap_used)]

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use bench::{SHORT, measure_on, run};
use common::{Place, until};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use redis_fixture::Server;

/// A picture, three bytes for each point.
struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    /// What a picture looks like, by `rsvg-convert` (Debian: librsvg2-bin).
    fn of(place: &Place, svg: &str) -> Self {
        let png = place.path("picture.png");
        let mut command = Command::new("rsvg-convert");
        command.args(["--background-color", "white"]);
        let output = command.arg("-o").arg(&png).arg(place.path(svg)).output();
        let output = output.unwrap_or_else(|error| {
            panic!("rsvg-convert, of Debian's librsvg2-bin, cannot be run: {error}")
        });
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut decoder = png::Decoder::new(BufReader::new(File::open(png).unwrap()));
        decoder.set_transformations(png::Transformations::STRIP_16);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let samples = info.color_type.samples();
        assert!(samples >= 3, "{:?}", info.color_type);
        let points = bytes[..info.buffer_size()].chunks_exact(samples);
        Self {
            width: info.width as usize,
            height: info.height as usize,
            bytes: points.flat_map(|point| point[..3].to_vec()).collect(),
        }
    }

    /// The colours of a part of it: from the one share of its height to the
    /// other.
    fn colours(&self, from: f64, to: f64) -> HashSet<[u8; 3]> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let row = |share: f64| (self.height as f64 * share) as usize * self.width * 3;
        let points = self.bytes[row(from)..row(to)].chunks_exact(3);
        points.map(|point| [point[0], point[1], point[2]]).collect()
    }
}

#[test]
fn it_renders_with_all_that_belongs_to_a_report() {
    let (server, place) = (Server::start(), Place::new());
    place.write("bench.svg", "an older one");
    let options = ["--json", "--plot", "bench.svg", "--tasks", "8"];
    let (ended, seconds) = measure_on(&place, &server, &options);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let svg = place.read("bench.svg");
    let settings = "1 process, 8 tasks, 8 conversations";
    let times = format!("{seconds} s after a warm-up of 0.1 s");
    for text in [
        "locks and releases per second with 8 tasks",
        "Redis at 127.0.0.1:",
        &format!("{settings}; {times}"),
        "Latency",
        "round trip of PING",
        "lock + release, 1 task",
        "lock + release, 8 tasks at once",
        "hand-off, 16 waiters",
        ">p50<",
        ">p99<",
        "time, on a logarithmic scale",
        "Throughput",
        "cycles per second",
        "time since the end of the warm-up in s",
    ] {
        assert!(svg.contains(text), "{text:?} in {svg}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let pixels = Pixels::of(&place, "bench.svg");
    assert_eq!(pixels.width, 960);
    let (latency, throughput) = (pixels.colours(0.1, 0.65), pixels.colours(0.72, 0.95));
    for colour in [
        [0x8a, 0x94, 0xa0],
        [0x56, 0xa3, 0xd9],
        [0x0b, 0x5f, 0xa5],
        [0xd4, 0x71, 0x1a],
    ] {
        assert!(
            latency.contains(&colour),
            "{colour:x?} is not in the first panel"
        );
    }
    assert!(
        throughput.contains(&[0x0b, 0x5f, 0xa5]),
        "no line in the second panel"
    );
    assert!(pixels.colours(0.0, 0.1).len() > 10, "no title");
}

#[test]
fn it_is_a_file_like_others_and_the_only_one() {
    let place = Place::new();
    fs::create_dir(place.path("reports")).unwrap();
    let files = || {
        let files = fs::read_dir(place.path("reports")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    let plot = ["--plot", "reports/bench.svg"];
    let ended = run(&place, &[&SHORT[..], &plot, &["--tasks", "1"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(files(), ["bench.svg"]);
    let like = File::create(place.path("like"))
        .unwrap()
        .metadata()
        .unwrap();
    let made = fs::metadata(place.path("reports/bench.svg")).unwrap();
    assert_eq!(made.permissions().mode(), like.permissions().mode());
    Pixels::of(&place, "reports/bench.svg");
    // One that failed leaves what was there.
    let ended = run(
        &place,
        &[&plot[..], &["--redis", "redis://127.0.0.1:1"]].concat(),
    );
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(files(), ["bench.svg"]);
}

/// Nor is there any other, if it is given up before there is anything to draw.
#[test]
fn whoever_is_tired_of_waiting_for_the_server_finds_no_file_left() {
    let (server, place) = (Server::start(), Place::new());
    server.freeze();
    let others = || {
        let files = fs::read_dir(place.path("")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.contains(".svg"))
            .collect::<Vec<_>>()
    };
    let arguments = ["--redis", &server.url(), "--plot", "never.svg"];
    let running = place.start(&mut bench::bench(&place, &arguments));
    until("there is a file to draw into", || !others().is_empty());
    running.signal(Signal::SIGINT);
    let ended = running.ended();
    server.thaw();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    assert_eq!(others(), [""; 0]);
}

#[test]
fn a_terminal_sees_how_far_it_is() {
    let place = Place::new();
    let terminal = openpty(None, None).unwrap();
    let mut command = bench::bench(&place, &["--seconds", "0.5", "--warm-up", "0.3"]);
    let running = place.start(command.stderr(terminal.slave));
    // The command holds the other end until it is dropped.
    drop(command);
    let mut seen = Vec::new();
    let mut master = File::from(terminal.master);
    let mut part = [0; 4096];
    // The end of a terminal is an error.
    while let Ok(length @ 1..) = master.read(&mut part) {
        seen.extend_from_slice(&part[..length]);
    }
    assert_eq!(running.ended().status.code(), Some(0));
    let seen = String::from_utf8_lossy(&seen);
    for text in ["one task, warm-up", "load", "hand-off", "%"] {
        assert!(seen.contains(text), "{text:?} in {seen:?}");
    }
}
