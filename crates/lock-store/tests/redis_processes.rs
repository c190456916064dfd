//! Several processes on one conversation, and what happens when one of them is
//! killed or stopped.
//!
//! A process is this test binary itself, started with the test `child` alone.
//! It does what it is told on its standard input, and answers on its standard
//! output.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lock_store::{LockGuard, LockStore, Timing};
use redis_fixture::{Connection, FOR_EVER, Server, until};

use support::redis::{at, store};

/// What a child is told by its environment.
const ADDRESS: &str = "LOCK_STORE_TEST_ADDRESS";

/// Begins every answer; the test harness says other things.
const MARK: &str = "@ ";

const WINDOW: Duration = Duration::from_millis(1_500);

/// How soon the next one is served, once it is known who that is.
const SOON: Duration = Duration::from_secs(1);

/// A write that is refused if a later holder has written.
const FENCED_WRITE: &str = "if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or '0') \
                            then return 0 end \
                            redis.call('SET', KEYS[1], ARGV[1]) return 1";

fn queue_of(id: &str) -> String {
    format!("lock-store:tickets:{id}")
}

/// Another process.
struct Process {
    child: std::process::Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    fn start(server: &Server) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ADDRESS, server.address())
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

    fn say(&mut self, order: &str) {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        orders.flush().unwrap();
    }

    #[track_caller]
    fn answer(&self) -> String {
        self.answers.recv_timeout(FOR_EVER).unwrap()
    }

    #[track_caller]
    fn hears(&self, expected: &str) {
        assert_eq!(self.answer(), expected);
    }

    /// Waits until it has the lock, and says under which token.
    #[track_caller]
    fn has_locked(&self) -> u64 {
        let answer = self.answer();
        let token = answer.strip_prefix("locked ");
        token
            .unwrap_or_else(|| panic!("not locked: {answer}"))
            .parse()
            .unwrap()
    }

    #[track_caller]
    fn locks(&mut self, id: &str, lifetime: Duration) -> u64 {
        self.say(&format!("lock {id} {}", lifetime.as_millis()));
        self.has_locked()
    }

    #[track_caller]
    fn releases(&mut self, id: &str) {
        self.say(&format!("release {id}"));
        self.hears("released");
    }

    fn signal(&self, signal: &str) {
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
    fn freeze(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        until("the process is stopped", || {
            let stat = fs::read_to_string(&stat).unwrap();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// `SIGKILL`.
    fn dies(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end by itself.
    fn ends(mut self) {
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
fn until_queued(server: &Server, id: &str, tickets: i64) {
    until("all are in the queue", || {
        server.command(&["LLEN", &queue_of(id)]).integer() == tickets
    });
}

#[track_caller]
fn nothing_is_left(server: &Server) {
    let keys = || server.command(&["KEYS", "lock-store:*"]).texts();
    until("all is released", || keys().is_empty());
}

mod one_after_the_other {
    use super::*;

    const PROCESSES: usize = 4;
    const TASKS: usize = 8;
    const ROUNDS: usize = 125;

    #[test]
    fn thousands_of_acquisitions_never_meet() {
        let server = Server::start();
        let folder = tempfile::tempdir().unwrap();
        fs::write(counter(folder.path()), "0").unwrap();
        let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::start(&server)).collect();
        for process in &mut processes {
            process.say(&format!(
                "work {} {TASKS} {ROUNDS}",
                folder.path().display()
            ));
        }
        for process in processes {
            process.hears("worked");
            process.ends();
        }
        let all = PROCESSES * TASKS * ROUNDS;
        assert_eq!(
            fs::read_to_string(counter(folder.path())).unwrap(),
            all.to_string()
        );
        let tokens = fs::read_to_string(tokens(folder.path())).unwrap();
        let tokens: Vec<u64> = tokens.lines().map(|token| token.parse().unwrap()).collect();
        assert_eq!(tokens.len(), all);
        assert!(tokens.is_sorted_by(|earlier, later| earlier < later));
        nothing_is_left(&server);
    }
}

mod killed {
    use super::*;

    /// Its lease must run out, as nobody can know.
    #[test]
    fn a_holder() {
        let server = Server::start();
        let [mut holder, mut next] = [(); 2].map(|()| Process::start(&server));
        let lifetime = Duration::from_secs(2);
        let begun = Instant::now();
        let token = holder.locks("a", lifetime);
        let leased = Instant::now();
        next.say("lock a 60000");
        until_queued(&server, "a", 2);
        holder.dies();
        let later = next.has_locked();
        assert!(later > token);
        assert!(begun.elapsed() >= lifetime, "after {:?}", begun.elapsed());
        assert!(
            leased.elapsed() <= lifetime + SOON,
            "after {:?}",
            leased.elapsed()
        );
        next.releases("a");
        nothing_is_left(&server);
    }

    /// It is called and does not answer: that costs the claim window.
    #[test]
    fn a_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = [(); 3].map(|()| Process::start(&server));
        holder.locks("a", Duration::from_secs(60));
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        next.say("lock a 60000");
        until_queued(&server, "a", 3);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        assert!(
            released.elapsed() <= WINDOW + SOON,
            "after {:?}",
            released.elapsed()
        );
        next.releases("a");
        nothing_is_left(&server);
    }

    /// Nobody waits for it, and it is nobody's loss.
    #[test]
    fn the_last_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter] = [(); 2].map(|()| Process::start(&server));
        holder.locks("a", Duration::from_secs(60));
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        holder.locks("a", Duration::from_secs(60));
        assert!(
            released.elapsed() <= WINDOW + SOON,
            "after {:?}",
            released.elapsed()
        );
        holder.releases("a");
        nothing_is_left(&server);
    }

    /// However many tickets it had, they cost one claim window.
    #[test]
    fn one_with_a_hundred_tickets() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = [(); 3].map(|()| Process::start(&server));
        holder.locks("a", Duration::from_secs(60));
        waiter.say("queue a 50");
        waiter.hears("queued");
        next.say("queue a 1");
        next.hears("queued");
        waiter.say("queue a 50");
        waiter.hears("queued");
        next.say("queue a 1");
        next.hears("queued");
        until_queued(&server, "a", 103);
        waiter.dies();
        holder.releases("a");
        let released = Instant::now();
        // Both of its tickets, one after the other.
        next.say("served");
        next.hears("served");
        assert!(
            released.elapsed() <= WINDOW + SOON,
            "after {:?}",
            released.elapsed()
        );
        nothing_is_left(&server);
    }

    /// Each dead client costs one claim window, and no more.
    #[test]
    fn two_after_each_other() {
        let server = Server::start();
        let [mut holder, mut one, mut other, mut next] = [(); 4].map(|()| Process::start(&server));
        holder.locks("a", Duration::from_secs(60));
        for _ in 0..10 {
            for process in [&mut one, &mut other] {
                process.say("queue a 1");
                process.hears("queued");
            }
        }
        next.say("lock a 60000");
        until_queued(&server, "a", 22);
        one.dies();
        other.dies();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        assert!(
            released.elapsed() <= 2 * WINDOW + SOON,
            "after {:?}",
            released.elapsed()
        );
        next.releases("a");
        nothing_is_left(&server);
    }
}

mod stopped {
    use super::*;

    /// A holder that stood still past its lease finds its lock lost before it
    /// acts; and would it act all the same, it would be refused.
    fn past_its_lease(keep_alive: bool) {
        let server = Server::start();
        let [mut holder, mut next] = [(); 2].map(|()| Process::start(&server));
        let order = if keep_alive { "keep" } else { "lock" };
        holder.say(&format!("{order} a 2000"));
        let token = holder.has_locked();
        holder.say("write a");
        holder.hears("lost false written 1");
        holder.freeze();
        next.say("lock a 60000");
        let later = next.has_locked();
        assert!(later > token);
        next.say("write a");
        next.hears("lost false written 1");
        // There before it wakes, so that it does nothing else first.
        holder.say("write a");
        holder.signal("-CONT");
        holder.hears("lost true written 0");
        holder.say("release a");
        holder.hears("not released Lost");
        // The later one is not disturbed.
        next.say("write a");
        next.hears("lost false written 1");
        next.releases("a");
        let written = server.command(&["GET", "written:a"]).text();
        assert_eq!(written, later.to_string());
        nothing_is_left(&server);
    }

    #[test]
    fn a_holder() {
        past_its_lease(false);
    }

    #[test]
    fn a_holder_that_keeps_its_lease_alive() {
        past_its_lease(true);
    }

    /// It is taken for dead, learns it, and queues again at the end.
    #[test]
    fn a_waiter() {
        let server = Server::start();
        let [mut holder, mut waiter, mut next] = [(); 3].map(|()| Process::start(&server));
        holder.locks("a", Duration::from_secs(60));
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        next.say("lock a 60000");
        until_queued(&server, "a", 3);
        waiter.freeze();
        holder.releases("a");
        let released = Instant::now();
        next.has_locked();
        assert!(
            released.elapsed() <= WINDOW + SOON,
            "after {:?}",
            released.elapsed()
        );
        waiter.signal("-CONT");
        waiter.hears("not locked Gone");
        waiter.say("lock a 60000");
        until_queued(&server, "a", 2);
        next.releases("a");
        waiter.has_locked();
        waiter.releases("a");
        nothing_is_left(&server);
    }
}

fn counter(folder: &Path) -> PathBuf {
    folder.join("counter")
}

fn tokens(folder: &Path) -> PathBuf {
    folder.join("tokens")
}

#[allow(clippy::print_stdout)]
fn tell(answer: &str) {
    // On a line of its own.
    println!("\n{MARK}{answer}");
}

/// Not a test, but the other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests"]
async fn child() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let timing = Timing {
        claim_window: WINDOW,
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
