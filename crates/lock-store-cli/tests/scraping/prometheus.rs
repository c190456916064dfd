//! A Prometheus of our own, from Debian's package `prometheus`.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::get;
use crate::common::until;

/// `deploy/NAME`.
pub(crate) fn deployed(name: &str) -> PathBuf {
    repository().join("deploy").join(name)
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs `promtool`, which must be content, and returns what it said.
#[track_caller]
pub(crate) fn promtool(arguments: &[&str], input: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package `prometheus`");
    let mut stdin = tool.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// It ends when this is dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes these each second, and evaluates the alerts as often.
    pub(crate) fn start(targets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: lock-store\n    static_configs: [targets: {targets:?}]\n",
            deployed("alerts.yml").display()
        );
        std::fs::write(&config, text).unwrap();
        // Another program may take the port before it does.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap().to_string();
            drop(port);
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            let mut process = Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .arg("--log.level=warn")
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("prometheus, of Debian's package `prometheus`");
            let mut ended = false;
            until("Prometheus is ready", || {
                ended = process.try_wait().unwrap().is_some();
                ended
                    || std::net::TcpStream::connect(&address).is_ok()
                        && get(&address, "/-/ready").status == 200
            });
            if !ended {
                return Self {
                    process,
                    address,
                    _folder: folder,
                };
            }
        }
        let log = std::fs::read_to_string(folder.path().join("log"));
        panic!("Prometheus does not start: {}", log.unwrap_or_default());
    }

    /// What a page of its interface has as `data`.
    #[track_caller]
    pub(crate) fn data(&self, path: &str) -> Value {
        let page = get(&self.address, &format!("/api/v1/{path}"));
        let mut answer: Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// The series that a query has now.
    #[track_caller]
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let mut escaped = String::new();
        for byte in query.bytes() {
            write!(escaped, "%{byte:02x}").unwrap();
        }
        let data = self.data(&format!("query?query={escaped}"));
        data["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
