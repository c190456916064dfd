//! Real Redis servers for tests and benchmarks: one, with replicas, under
//! Sentinel, or as a cluster; and a proxy that cuts connections.
//!
//! Every server listens on free ports of 127.0.0.1, keeps its files in a
//! temporary folder, and ends when it is dropped. A `static` is never dropped,
//! so do not keep one there; and it goes on if the process of the test is
//! killed. Many may run at once, in many processes.
//!
//! The binary is `redis-server` of the `PATH`, or what the environment
//! variable `LOCK_STORE_REDIS_SERVER` names: Redis from 6.2, or Valkey.
//!
//! Everything here is for tests, so whatever goes wrong panics and says why,
//! and nothing is waited for longer than [`FOR_EVER`].
//!
//! ```
//! use redis_fixture::Server;
//!
//! let server = Server::start();
//! server.command(&["SET", "greeting", "hello"]).ok();
//! server.restart();
//! assert_eq!(server.command(&["GET", "greeting"]).text(), "hello");
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a fixture fails by panicking"
)]

mod builder;
mod certificates;
mod client;
mod cluster;
mod cuts;
mod link;
mod ports;
mod process;
mod proxy;
mod reply;
mod rights;
mod sentinels;
mod server;
mod topology;
mod version;

use std::time::{Duration, Instant};

pub use builder::{ClientCertificate, ServerBuilder};
pub use certificates::Certificates;
pub use client::Connection;
pub use cluster::{Cluster, ClusterBuilder, Migration};
pub use cuts::{Before, Cut};
pub use proxy::Proxy;
pub use reply::Reply;
pub use rights::documented_rights;
pub use sentinels::{Sentinels, SentinelsBuilder};
pub use server::Server;
pub use version::Version;

/// Long enough for any machine; whoever waits as long has failed.
pub const FOR_EVER: Duration = Duration::from_secs(120);

/// Waits until `condition` holds, and panics when it never does.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Waits until there is something, and returns it.
#[track_caller]
fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < FOR_EVER, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
