//! A proxy on the way to a server, for faults of the network.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::cuts::{Before, Cut, Cuts};
use crate::link::{Link, read};

const CHUNK: usize = 64 * 1024;

/// Forwards connections to a server, and cuts them where a test wants it.
///
/// ```
/// use redis_fixture::{Connection, Cut, Proxy, Server};
///
/// let server = Server::start();
/// let proxy = Proxy::to(&server.address());
/// proxy.cut_when(Cut::reply("INCR"));
/// let mut connection = Connection::tcp(&proxy.address()).unwrap();
/// assert!(connection.command(&["INCR", "count"]).is_err());
/// assert_eq!(server.command(&["GET", "count"]).text(), "1");
/// ```
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
    /// Told when bytes may go on or connections are cut.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_ended: bool,
    refuses: bool,
    stalls: bool,
    accepted: usize,
    done: usize,
    cuts: Cuts,
    links: HashMap<usize, Arc<Link>>,
    /// The connections whose commands are held back.
    held: HashSet<usize>,
}

impl Proxy {
    /// Starts one, on a free port of 127.0.0.1, on the way to `host:port`.
    /// The server may come and go.
    pub fn to(address: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: address.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self {
            shared,
            port,
            acceptor: Some(acceptor),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:port/0`.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Closes all connections.
    pub fn cut_all(&self) {
        self.shared.cut_all(&mut self.shared.state());
    }

    /// From now on, closes new connections at once, or no more.
    pub fn refuse(&self, refuse: bool) {
        self.shared.state().refuses = refuse;
    }

    /// From now on, accepts connections and forwards nothing, or forwards
    /// again, and what has come meanwhile first.
    pub fn stall(&self, stall: bool) {
        self.shared.state().stalls = stall;
        self.shared.changed.notify_all();
    }

    /// From now on, holds back what the clients send over the connections that
    /// the server knows by these addresses, as
    /// [`Server::client_addresses`](crate::Server::client_addresses) returns
    /// them. Other connections work, and so do new ones.
    pub fn hold(&self, addresses: &[String]) {
        let mut state = self.shared.state();
        let links = state.links.values();
        let is_named = |link: &&Arc<Link>| addresses.contains(&link.known_as());
        let named: Vec<_> = links.filter(is_named).map(|link| link.number).collect();
        state.held.extend(named);
    }

    /// Forwards what was held back, even if its client has closed the
    /// connection since.
    pub fn let_go(&self) {
        self.shared.state().held.clear();
        self.shared.changed.notify_all();
    }

    /// How many connections are held back.
    pub fn held(&self) -> usize {
        self.shared.state().held.len()
    }

    /// Cuts a connection at this point, besides at others given before.
    pub fn cut_when(&self, cut: Cut) {
        self.shared.state().cuts.add(cut);
    }

    /// Forgets the points that have not come.
    pub fn cut_no_more(&self) {
        self.shared.state().cuts.clear();
    }

    /// How often it has cut a connection at such a point.
    pub fn cuts(&self) -> usize {
        self.shared.state().done
    }

    /// How many connections it has accepted, with those that it refused.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.state().links.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.has_ended = true;
        self.shared.cut_all(&mut state);
        drop(state);
        // Wakes the acceptor, which then sees that.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let number = {
                let mut state = self.state();
                if state.has_ended {
                    return;
                }
                state.accepted += 1;
                if state.refuses {
                    continue;
                }
                state.accepted
            };
            // Without a server, the client's connection is closed.
            if let Ok(link) = client.and_then(|client| Link::new(number, client, &self.target)) {
                self.forward(link);
            }
        }
    }

    fn forward(self: &Arc<Self>, link: Link) {
        let link = Arc::new(link);
        {
            let mut state = self.state();
            if state.has_ended || state.refuses {
                return link.close();
            }
            state.links.insert(link.number, Arc::clone(&link));
        }
        thread::spawn({
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            move || {
                let _ = shared.forward_commands(&link);
                // The server sees the end, and may still reply.
                let _ = link.server.shutdown(Shutdown::Write);
            }
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let _ = shared.forward_replies(&link);
            link.close();
            shared.state().links.remove(&link.number);
        });
    }

    fn forward_commands(&self, link: &Link) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let chunk = read(&link.client, &mut buffer)?;
            if chunk.is_empty() {
                return Ok(());
            }
            let held = |state: &State| state.stalls || state.held.contains(&link.number);
            let mut state = self.when_not(held, link)?;
            let cut = state.cuts.due(chunk);
            if cut == Some(Before::Command) {
                self.count(&mut state, link);
                link.close();
                return Ok(());
            }
            drop(state);
            // Held until it is written: so it reaches the server even if the
            // client is cut off at a reply that comes before.
            let mut withholds = link.withholds();
            *withholds |= cut == Some(Before::Reply);
            (&link.server).write_all(chunk)?;
        }
    }

    fn forward_replies(&self, link: &Link) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let chunk = read(&link.server, &mut buffer)?;
            if chunk.is_empty() {
                return Ok(());
            }
            let mut state = self.when_not(|state| state.stalls, link)?;
            if *link.withholds() {
                self.count(&mut state, link);
                drop(state);
                let _ = link.client.shutdown(Shutdown::Both);
                let _ = link.server.shutdown(Shutdown::Write);
                // Closed with something unread, it could lose commands.
                while !read(&link.server, &mut buffer)?.is_empty() {}
                return Ok(());
            }
            drop(state);
            (&link.client).write_all(chunk)?;
        }
    }

    /// Waits as long as nothing is forwarded, and fails once the connection is
    /// cut.
    fn when_not(
        &self,
        stands_still: impl Fn(&State) -> bool,
        link: &Link,
    ) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        let waits = |state: &mut State| stands_still(state) && state.has(link);
        let state = self.changed.wait_while(state, waits);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.has(link) {
            Ok(state)
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    /// A cut, which is counted before the client sees it.
    fn count(&self, state: &mut State, link: &Link) {
        state.done += 1;
        state.links.remove(&link.number);
        self.changed.notify_all();
    }

    fn cut_all(&self, state: &mut State) {
        for (_, link) in state.links.drain() {
            link.close();
        }
        self.changed.notify_all();
    }
}

impl State {
    fn has(&self, link: &Link) -> bool {
        self.links.contains_key(&link.number)
    }
}
