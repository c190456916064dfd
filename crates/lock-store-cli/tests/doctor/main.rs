//! `lock-store doctor` before servers that are each wrong in one way: it names
//! that one.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod network;
mod output;
mod rights;
mod server;
mod settings;
mod shapes;
mod support;
mod tls;
