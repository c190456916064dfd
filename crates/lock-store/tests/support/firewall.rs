//! A firewall that forgets connections, or lets a command through late.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use redis_fixture::Server;

use super::redis::holds_soon;

/// Forwards connections to a server until it forgets them: then they stay open
/// and nothing comes through any more. New ones work.
pub struct Firewall {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Forwarded>>>>,
    delay: Arc<Delay>,
}

#[derive(Default)]
struct Forwarded {
    sent: Mutex<Vec<u8>>,
    is_forgotten: AtomicBool,
}

/// A command that arrives after its connection was closed.
#[derive(Default)]
struct Delay {
    of: Mutex<Vec<String>>,
    is_held: AtomicBool,
    may_go: AtomicBool,
    /// The server has done with it, one way or the other.
    is_over: AtomicBool,
}

impl Firewall {
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<Mutex<Vec<_>>>::default();
        let delay = Arc::<Delay>::default();
        let (target, known) = (server.address(), connections.clone());
        let delaying = delay.clone();
        // Ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else {
                    continue;
                };
                let forwarded = Arc::new(Forwarded::default());
                known.lock().unwrap().push(forwarded.clone());
                let (to_client, from_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                let there = forwarded.clone();
                let delay = delaying.clone();
                thread::spawn(move || there.forward(client, server, Some(&delay)));
                thread::spawn(move || forwarded.forward(from_server, to_client, None));
            }
        });
        Self {
            port,
            connections,
            delay,
        }
    }

    /// Closes the connection of a client that sends one of these, once, and
    /// keeps what it sent.
    pub fn hold(&self, texts: &[&str]) {
        let texts = texts.iter().copied().map(str::to_owned);
        *self.delay.of.lock().unwrap() = texts.collect();
    }

    /// Whether something is held.
    pub fn holds(&self) -> bool {
        self.delay.is_held.load(Ordering::SeqCst)
    }

    /// Sends it to the server, and waits until that has done with it.
    pub async fn let_go(&self) {
        assert!(self.holds());
        self.delay.may_go.store(true, Ordering::SeqCst);
        let is_over = || self.delay.is_over.load(Ordering::SeqCst);
        holds_soon("it has arrived", is_over).await;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Forgets all connections that there are.
    pub fn forget_all(&self) {
        self.forget_those_that_sent("");
    }

    /// Forgets those over which this was sent to the server.
    pub fn forget_those_that_sent(&self, text: &str) {
        for forwarded in &*self.connections.lock().unwrap() {
            let sent = forwarded.sent.lock().unwrap();
            if String::from_utf8_lossy(&sent).contains(text) {
                forwarded.is_forgotten.store(true, Ordering::SeqCst);
            }
        }
    }
}

impl Forwarded {
    fn forward(&self, mut from: TcpStream, mut to: TcpStream, delay: Option<&Delay>) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let chunk = &buffer[..length];
            if let Some(delay) = delay {
                self.sent.lock().unwrap().extend(chunk);
                let sent = String::from_utf8_lossy(chunk);
                let mut of = delay.of.lock().unwrap();
                if of.iter().any(|text| sent.contains(&**text)) {
                    of.clear();
                    drop(of);
                    return delay.deliver_late(chunk, &from, to);
                }
            }
            if !self.is_forgotten.load(Ordering::SeqCst) {
                let _ = to.write_all(chunk);
            }
        }
        if !self.is_forgotten.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}

impl Delay {
    fn deliver_late(&self, chunk: &[u8], client: &TcpStream, mut server: TcpStream) {
        let _ = client.shutdown(Shutdown::Both);
        self.is_held.store(true, Ordering::SeqCst);
        while !self.may_go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        // May be closed by now.
        let _ = server.write_all(chunk);
        let _ = server.shutdown(Shutdown::Write);
        // Another thread reads, too: both see the end.
        let mut buffer = [0; 4096];
        while let Ok(1..) = server.read(&mut buffer) {}
        self.is_over.store(true, Ordering::SeqCst);
    }
}
