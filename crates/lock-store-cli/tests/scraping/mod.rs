//! Commands that are scraped, and what Prometheus would read there.

#![allow(dead_code)] // not every test file needs all of it
#![allow(clippy::unwrap_used)]

pub(crate) mod prometheus;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::common::{FOR_EVER, Place, Running, bare, until};

/// Something that serves metrics.
pub(crate) struct Scraped {
    pub(crate) place: Place,
    pub(crate) running: Running,
    pub(crate) address: String,
}

impl Scraped {
    /// An exporter for this Redis, at any port.
    pub(crate) fn export(url: &str, options: &[&str]) -> Self {
        let place = Place::new();
        let begin = ["export", "--listen", "127.0.0.1:0", "--redis", url];
        let command = bare(&place, &[&begin, options].concat());
        Self::started(place, command)
    }

    /// Starts it and waits until it says where the metrics are.
    pub(crate) fn started(place: Place, mut command: Command) -> Self {
        let mut running = place.start(&mut command);
        let mut address = None;
        until("it says where the metrics are", || {
            let said = place.read("stderr");
            assert!(running.is_running(), "{said}");
            let after = said.split_once("metrics are at http://");
            let line = after.and_then(|(_, after)| after.split_once("/metrics\n"));
            address = line.map(|(address, _)| address.to_owned());
            address.is_some()
        });
        Self {
            place,
            running,
            address: address.unwrap(),
        }
    }

    pub(crate) fn scrape(&self) -> Metrics {
        let page = get(&self.address, "/metrics");
        assert_eq!(page.status, 200);
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(page.head.to_lowercase().contains(kind), "{}", page.head);
        Metrics::read(&page.body)
    }

    /// Scrapes until this holds.
    #[track_caller]
    pub(crate) fn scrape_until(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut seen = self.scrape();
        until(what, || {
            seen = self.scrape();
            holds(&seen)
        });
        seen
    }
}

/// What a server answered.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for a page, as a client that wants it in one piece.
pub(crate) fn get(address: &str, path: &str) -> Page {
    ask(address, "GET", path, "")
}

/// `fields` are lines of the head, each with its end.
pub(crate) fn ask(address: &str, method: &str, path: &str, fields: &str) -> Page {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(FOR_EVER)).unwrap();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: test\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Page {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Samples by name and labels, as in `name{a="b"}`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format, and sees to it that everything is explained.
    pub(crate) fn read(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        let (mut helped, mut typed) = (Vec::new(), Vec::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(!text.is_empty(), "{name}");
                helped.push(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                typed.push(kind.split_once(' ').unwrap().0);
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let bare = name.split('{').next().unwrap();
                assert!(bare.starts_with(typed.last().unwrap()), "{bare}: {typed:?}");
                let before = samples.insert(name.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{name} is there twice");
            }
        }
        assert_eq!(helped, typed);
        Self(samples)
    }

    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> f64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("no {name} in {:#?}", self.0))
    }

    /// Whether there is this very value. The values of tests are whole.
    pub(crate) fn has(&self, name: &str, value: u32) -> bool {
        self.0.get(name) == Some(&f64::from(value))
    }

    #[track_caller]
    pub(crate) fn assert_has(&self, expected: &[(&str, u32)]) {
        for (name, value) in expected {
            assert!(self.has(name, *value), "{name} {value} in {:#?}", self.0);
        }
    }

    /// The names, without labels, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let bare = |name: &'_ String| name.split('{').next().unwrap().len();
        let mut names: Vec<_> = self.0.keys().map(|name| &name[..bare(name)]).collect();
        names.dedup();
        names
    }
}
