//! Stores on real Redis servers.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use lock_store::{
    Fallback, LockError, LockErrorKind, LockStore, LockStoreConfig, RedisConfig, StoreType, Timing,
};
use redis_fixture::Server;
use tokio::task::JoinSet;

/// What is shared by tests that run at the same time, and gone with the last:
/// a static would never be dropped, and its servers go on running.
pub struct Common<T>(Mutex<Weak<T>>);

impl<T> Common<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    pub fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        let mut shared = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(start());
        *shared = Arc::downgrade(&started);
        started
    }
}

/// A key prefix that no other test of this process has.
pub fn own_prefix() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("test{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// How to reach this URL, or fail; with times that suit a test.
pub fn at(url: &str) -> RedisConfig {
    RedisConfig {
        socket_timeout: Duration::from_secs(5),
        fallback: Fallback::None,
        ..RedisConfig::from_url(url)
    }
}

pub fn config(redis: RedisConfig, timing: Timing) -> LockStoreConfig {
    LockStoreConfig {
        store_type: StoreType::Redis,
        timing,
        redis,
    }
}

/// A store of its own, a client like another process.
pub async fn store(redis: &RedisConfig, timing: Timing) -> LockStore {
    LockStore::create(&config(redis.clone(), timing))
        .await
        .unwrap()
}

/// Does what blocks, such as asking a server of the fixture, without holding
/// up the tasks of the test.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits until this holds, for longer than it should ever take.
#[track_caller]
pub fn holds_soon(
    what: impl Into<String>,
    condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    holds_within(PATIENCE, what, condition)
}

/// Waits until this holds, and fails after that long.
#[track_caller]
pub fn holds_within(
    limit: Duration,
    what: impl Into<String>,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let (what, caller) = (what.into(), std::panic::Location::caller());
    async move {
        let begun = Instant::now();
        while !aside(&mut condition) {
            assert!(begun.elapsed() < limit, "{caller}: waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How long a test waits for what takes seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The keys of a server, of whatever prefix.
pub fn keys(server: &Server) -> Vec<String> {
    server.command(&["KEYS", "*"]).texts()
}

/// Waits until a server has no key any more.
#[track_caller]
pub fn nothing_left_at(server: &Server) -> impl Future<Output = ()> {
    let what = format!("nothing is left at {}", server.address());
    holds_soon(what, || keys(server).is_empty())
}

/// What tasks under load may be told, and what not.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub lifetime: Duration,
    pub wait_timeout: Duration,
    /// The storage may be out of reach for a while.
    pub may_fail: bool,
    /// The storage may lose what was written: then tickets go, holders lose
    /// their locks, and two may overlap.
    pub may_forget: bool,
}

impl Rules {
    /// Nobody notices anything.
    pub fn strict() -> Self {
        Self {
            lifetime: Duration::from_secs(60),
            wait_timeout: Duration::from_secs(20),
            may_fail: false,
            may_forget: false,
        }
    }

    /// Callers may be told that the store is out of reach, in time.
    pub fn outage(wait_timeout: Duration) -> Self {
        Self {
            wait_timeout,
            may_fail: true,
            ..Self::strict()
        }
    }
}

/// Tasks that lock conversations again and again, and whoever watches them:
/// nobody overlaps, tokens only rise, and no call takes longer than it may.
pub struct Load {
    watcher: Arc<Watcher>,
    tasks: JoinSet<()>,
}

struct Watcher {
    rules: Rules,
    seen: Mutex<HashMap<String, Seen>>,
    complaints: Mutex<Vec<String>>,
    failed: AtomicUsize,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    inside: Vec<u64>,
    highest: u64,
    served: usize,
}

impl Load {
    /// Begins with so many tasks for each store and each conversation.
    pub fn begin(
        stores: &[&LockStore],
        conversations: &[&str],
        tasks_each: usize,
        rules: Rules,
    ) -> Self {
        let seen = |id: &&str| ((*id).to_owned(), Seen::default());
        let watcher = Arc::new(Watcher {
            rules,
            seen: Mutex::new(conversations.iter().map(seen).collect()),
            complaints: Mutex::default(),
            failed: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for store in stores {
            for id in conversations {
                for _ in 0..tasks_each {
                    let (store, id, watcher) =
                        ((*store).clone(), (*id).to_owned(), watcher.clone());
                    tasks.spawn(async move { watcher.work(&store, &id).await });
                }
            }
        }
        Self { watcher, tasks }
    }

    /// Waits until every conversation was served this much more often.
    #[track_caller]
    pub fn goes_on(&self, more: usize) -> impl Future<Output = ()> {
        self.goes_on_within(PATIENCE, more)
    }

    /// The same, within a limit.
    #[track_caller]
    pub fn goes_on_within(&self, limit: Duration, more: usize) -> impl Future<Output = ()> {
        let watcher = self.watcher.clone();
        let begun = watcher.served();
        holds_within(limit, "all conversations go on", move || {
            let now = watcher.served();
            watcher.assert_content();
            now.iter().all(|(id, served)| *served >= begun[id] + more)
        })
    }

    /// How many calls have failed so far.
    pub fn failed(&self) -> usize {
        self.watcher.failed.load(Ordering::Relaxed)
    }

    /// Lets the tasks come to their end, and complains of what they saw.
    pub async fn end(mut self) {
        self.watcher.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.watcher.assert_content();
    }
}

impl Watcher {
    async fn work(&self, store: &LockStore, id: &str) {
        let Rules {
            lifetime,
            wait_timeout,
            ..
        } = self.rules;
        while !self.is_over.load(Ordering::Relaxed) {
            let highest = self.seen.lock().unwrap()[id].highest;
            let begun = Instant::now();
            let request = store.lock(id).lifetime(lifetime);
            let outcome = request.wait_timeout(wait_timeout).await;
            let took = begun.elapsed();
            if took > wait_timeout + Duration::from_secs(1) {
                self.complain(format!("a lock took {took:?}: {outcome:?}"));
            }
            match outcome {
                Ok(guard) => {
                    let token = guard.fencing_token().get();
                    self.enter(id, token, highest);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    self.leave(id, token);
                    let begun = Instant::now();
                    if let Err(error) = guard.release().await {
                        self.failed(&error, begun.elapsed());
                    }
                }
                Err(error) => self.failed(&error, took),
            }
        }
    }

    fn enter(&self, id: &str, token: u64, highest_before: u64) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.get_mut(id).unwrap();
        // Whoever asked after another was served has the higher token. If
        // none overlap, the one that is served later has it, too.
        let highest = if self.rules.may_forget {
            highest_before
        } else {
            seen.highest
        };
        if token <= highest {
            self.complain(format!("{id}: token {token} after {highest}"));
        }
        if !seen.inside.is_empty() && !self.rules.may_forget {
            self.complain(format!("{id}: {token} overlaps {:?}", seen.inside));
        }
        seen.inside.push(token);
        seen.highest = seen.highest.max(token);
    }

    fn leave(&self, id: &str, token: u64) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.get_mut(id).unwrap();
        seen.inside.retain(|inside| *inside != token);
        seen.served += 1;
    }

    fn failed(&self, error: &LockError, took: Duration) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let Rules {
            may_fail,
            may_forget,
            ..
        } = self.rules;
        let is_fine = match error.kind() {
            LockErrorKind::Unavailable | LockErrorKind::TimedOut => may_fail,
            LockErrorKind::Gone | LockErrorKind::Lost => may_forget,
            _ => false,
        };
        if !is_fine {
            self.complain(format!("after {took:?}: {error}"));
        }
    }

    fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }

    fn served(&self) -> HashMap<String, usize> {
        let seen = self.seen.lock().unwrap();
        let served = seen.iter().map(|(id, seen)| (id.clone(), seen.served));
        served.collect()
    }

    #[track_caller]
    fn assert_content(&self) {
        let complaints = self.complaints.lock().unwrap();
        let first: Vec<_> = complaints.iter().take(10).collect();
        assert!(
            first.is_empty(),
            "{} complaints: {first:#?}",
            complaints.len()
        );
    }
}

/// Bytes by which the command of a step is known, if its ticket has a lifetime
/// of 61 s and the store a claim window of 5 s. See `scripts.rs`.
pub mod command_of {
    use std::time::Duration;

    pub const LIFETIME: Duration = Duration::from_secs(61);

    /// The beginning of its element ends so.
    pub const ISSUE: &str = " 61000000 61000000 0 \r\n";
    /// Its lifetime and the claim window.
    pub const CLAIM: &str = "\r\n61000000\r\n$7\r\n5000000\r\n";
    /// An owner, with the space that ends it, and the claim window.
    pub const FINISH: &str = " \r\n$7\r\n5000000\r\n";
    /// The finish of a ticket that nobody waits behind, if that is known.
    pub const LEAVE: &str = "\r\nLREM\r\n";
}

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
