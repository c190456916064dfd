//! Several processes on one Redis.
//!
//! A process is the test binary itself, started with its test `child` alone,
//! which each file must have. It does what it is told on its standard input, and
//! answers on its standard output.

use std::collections::HashMap;
use std::fs::{self, File};
use std::future::IntoFuture as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lock_store::{LockGuard, LockStore, Timing};
use redis_fixture::{Connection, FOR_EVER, Server, until};

use super::redis::{at, store};

/// What a child is told by its environment: where Redis is, and its claim
/// window in ms.
const ADDRESS: &str = "LOCK_STORE_TEST_ADDRESS";
const CLAIM_WINDOW: &str = "LOCK_STORE_TEST_CLAIM_WINDOW";

/// Begins every answer; the test harness says other things.
const MARK: &str = "@ ";

/// How soon the next one is served, once it is known who that is: on a busy
/// machine, on which several processes have to get their turn.
pub const SOON: Duration = Duration::from_secs(10);

/// A write that is refused if a later holder has written.
const FENCED_WRITE: &str = "if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or '0') \
                            then return 0 end \
                            redis.call('SET', KEYS[1], ARGV[1]) return 1";

fn queue_of(id: &str) -> String {
    format!("lock-store:tickets:{id}")
}

/// Another process.
pub struct Process {
    child: std::process::Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    pub fn start(server: &Server, claim_window: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ADDRESS, server.address())
            .env(CLAIM_WINDOW, claim_window.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, answers) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness may have begun a line of its own.
                if let Some((_, answer)) = line.split_once(MARK)
                    && sender.send(answer.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let orders = child.stdin.take();
        let process = Self {
            child,
            orders,
            answers,
        };
        process.hears("ready");
        process
    }

    pub fn say(&mut self, order: &str) {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        orders.flush().unwrap();
    }

    #[track_caller]
    pub fn answer(&self) -> String {
        self.answers.recv_timeout(FOR_EVER).unwrap()
    }

    #[track_caller]
    pub fn hears(&self, expected: &str) {
        assert_eq!(self.answer(), expected);
    }

    /// Waits until it has the lock, and says under which token.
    #[track_caller]
    pub fn has_locked(&self) -> u64 {
        let answer = self.answer();
        let token = answer.strip_prefix("locked ");
        token
            .unwrap_or_else(|| panic!("not locked: {answer}"))
            .parse()
            .unwrap()
    }

    #[track_caller]
    pub fn locks(&mut self, id: &str, lifetime: Duration) -> u64 {
        self.say(&format!("lock {id} {}", lifetime.as_millis()));
        self.has_locked()
    }

    #[track_caller]
    pub fn releases(&mut self, id: &str) {
        self.say(&format!("release {id}"));
        self.hears("released");
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Stops it where it is, and waits until it stands still.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        until("the process is stopped", || {
            let stat = fs::read_to_string(&stat).unwrap();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// `SIGKILL`.
    pub fn dies(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end by itself.
    pub fn ends(mut self) {
        drop(self.orders.take());
        until("the process ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until so many have a ticket.
pub fn until_queued(server: &Server, id: &str, tickets: i64) {
    until("all are in the queue", || {
        server.command(&["LLEN", &queue_of(id)]).integer() == tickets
    });
}

#[track_caller]
pub fn nothing_is_left(server: &Server) {
    let keys = || server.command(&["KEYS", "lock-store:*"]).texts();
    until("all is released", || keys().is_empty());
}

pub fn counter(folder: &Path) -> PathBuf {
    folder.join("counter")
}

pub fn tokens(folder: &Path) -> PathBuf {
    folder.join("tokens")
}

#[allow(clippy::print_stdout)]
fn tell(answer: &str) {
    // On a line of its own.
    println!("\n{MARK}{answer}");
}

/// What another process does: for the test `child` of each file.
pub async fn obey() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let claim_window = std::env::var(CLAIM_WINDOW).unwrap().parse().unwrap();
    let timing = Timing {
        claim_window: Duration::from_millis(claim_window),
        ..Timing::default()
    };
    let redis = at(&format!("redis://{address}/0"));
    let store = store(&redis, timing).await;
    let (sender, mut orders) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for order in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    let mut raw = Connection::tcp(&address).unwrap();
    let mut guards: HashMap<String, LockGuard> = HashMap::new();
    let mut places = Vec::new();
    tell("ready");
    while let Some(order) = orders.recv().await {
        let words: Vec<_> = order.split(' ').collect();
        match words[..] {
            ["work", folder, tasks, rounds] => {
                let (tasks, rounds) = (tasks.parse().unwrap(), rounds.parse().unwrap());
                work(&store, Path::new(folder), tasks, rounds).await;
                tell("worked");
            }
            ["line", folder, tickets, rounds] => {
                let (tickets, rounds) = (tickets.parse().unwrap(), rounds.parse().unwrap());
                work_in_line(&store, Path::new(folder), tickets, rounds).await;
                tell("worked");
            }
            [order @ ("lock" | "keep"), id, lifetime] => {
                let lifetime = Duration::from_millis(lifetime.parse().unwrap());
                let request = store.lock(id).lifetime(lifetime).wait_timeout(FOR_EVER);
                match request.keep_alive(order == "keep").await {
                    Ok(guard) => {
                        let answer = format!("locked {}", guard.fencing_token());
                        guards.insert(id.to_owned(), guard);
                        tell(&answer);
                    }
                    Err(error) => tell(&format!("not locked {:?}", error.kind())),
                }
            }
            ["queue", id, count] => {
                for _ in 0..count.parse().unwrap() {
                    places.push(store.take_ticket(id).wait_timeout(FOR_EVER).await.unwrap());
                }
                tell("queued");
            }
            ["served"] => {
                for place in places.drain(..) {
                    place.wait().await.unwrap().release().await.unwrap();
                }
                tell("served");
            }
            ["write", id] => {
                let guard = &guards[id];
                let is_lost = guard.is_lost();
                let (key, token) = (format!("written:{id}"), guard.fencing_token().to_string());
                let written = raw.command(&["EVAL", FENCED_WRITE, "1", &key, &token]);
                tell(&format!(
                    "lost {is_lost} written {}",
                    written.unwrap().integer()
                ));
            }
            ["release", id] => match guards.remove(id).unwrap().release().await {
                Ok(()) => tell("released"),
                Err(error) => tell(&format!("not released {:?}", error.kind())),
            },
            _ => panic!("told {order:?}"),
        }
    }
    store.close().await.unwrap();
}

/// Acquires again and again, and does something that must not be done by two
/// at once.
async fn work(store: &LockStore, folder: &Path, tasks: usize, rounds: usize) {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (store, folder) = (store.clone(), folder.to_owned());
        all.spawn(async move {
            for _ in 0..rounds {
                let guard = store.lock("a").wait_timeout(FOR_EVER).await.unwrap();
                let token = guard.fencing_token().get();
                critical_section(&folder, token);
                let (number, was_lost) = (guard.ticket_number(), guard.is_lost());
                if let Err(error) = guard.release().await {
                    let queue = store.get_lock("a").await;
                    panic!("{error}; {number} {token} lost before: {was_lost}; {queue:#?}");
                }
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// Takes several tickets in a row, so that most of them are handed over within
/// this process, and uses each in its own task.
async fn work_in_line(store: &LockStore, folder: &Path, tickets: usize, rounds: usize) {
    for _ in 0..rounds {
        let requests = (0..tickets).map(|_| {
            let request = store.take_ticket("a").wait_timeout(FOR_EVER);
            request.into_future()
        });
        let places = futures_util::future::try_join_all(requests).await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for (at, place) in places.into_iter().enumerate() {
            let folder = folder.to_owned();
            all.spawn(async move {
                let guard = place.wait().await.unwrap();
                critical_section(&folder, guard.fencing_token().get());
                if at % 3 == 0 {
                    drop(guard);
                } else {
                    guard.release().await.unwrap();
                }
            });
        }
        all.join_all().await;
    }
}

fn critical_section(folder: &Path, token: u64) {
    let inside = folder.join("inside");
    File::create_new(&inside).unwrap(); // unless somebody else is inside
    let count: u64 = fs::read_to_string(counter(folder))
        .unwrap()
        .parse()
        .unwrap();
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(tokens(folder))
        .unwrap();
    writeln!(log, "{token}").unwrap();
    fs::write(counter(folder), (count + 1).to_string()).unwrap();
    fs::remove_file(inside).unwrap();
}
