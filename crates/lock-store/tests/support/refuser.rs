//! A server that refuses every command with the same words.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// It ends when this is dropped; the connections end with their clients.
pub struct Refuser {
    port: u16,
    has_ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Refuser {
    /// Starts one that answers every command with this error.
    pub fn saying(error: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let has_ended = Arc::new(AtomicBool::new(false));
        let acceptor = thread::spawn({
            let has_ended = has_ended.clone();
            move || {
                for client in listener.incoming() {
                    if has_ended.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(client) = client {
                        thread::spawn(move || refuse(client, error));
                    }
                }
            }
        });
        Self {
            port,
            has_ended,
            acceptor: Some(acceptor),
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Refuser {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Reads commands, and answers each of them.
fn refuse(client: TcpStream, error: &str) {
    let Ok(mut answers) = client.try_clone() else {
        return;
    };
    let mut commands = BufReader::new(client);
    while skip_command(&mut commands).is_some() {
        if write!(answers, "-{error}\r\n").is_err() {
            return;
        }
    }
}

/// `None` at the end of the connection.
fn skip_command(from: &mut BufReader<TcpStream>) -> Option<()> {
    for _ in 0..number_after('*', from)? {
        let mut argument = vec![0; number_after('$', from)? + 2];
        from.read_exact(&mut argument).ok()?;
    }
    Some(())
}

fn number_after(sign: char, from: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    line.strip_prefix(sign)?.trim_end().parse().ok()
}
