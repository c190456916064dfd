//! The scripts in Redis against `TicketLock`: the same random transitions on
//! both, compared step by step.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lock_store::{
    Backend, Changes, Claim, Claimed, ClientId, ConversationId, Finish, Finished, Issue, Issued,
    Layout, LockError, LockErrorKind, Owner, RedisLockStore, Ticket, TicketLock, TicketName,
    Timestamp,
};
use redis_fixture::{FOR_EVER, Server};
use tokio::task::JoinHandle;

use support::bench::Bench;
use support::order::{assert_rising, begun};
use support::redis::at;
use support::walk::Walk;
use support::walk::step::Dice;

#[test]
fn scripts_do_what_the_reference_does() {
    side_by_side(Layout::Native);
}

#[test]
fn they_do_it_in_rasas_layout_too() {
    side_by_side(Layout::Rasa);
}

/// Many walks side by side, as most of their time is spent waiting for deaths.
fn side_by_side(layout: Layout) {
    const WALKS: u64 = 12;
    const STEPS: usize = 250;
    let server = Server::start();
    let walks: Vec<Walk> = std::thread::scope(|scope| {
        let walks: Vec<_> = (0..WALKS)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    on_a_runtime(async {
                        let mut walk = Walk::new(server, layout, seed).await;
                        let begun = Instant::now();
                        let mut steps = 0;
                        while steps < STEPS {
                            steps += usize::from(walk.step().await);
                            assert!(begun.elapsed() < 2 * FOR_EVER, "only {steps} are clear");
                        }
                        walk
                    })
                })
            })
            .collect();
        walks.into_iter().map(|walk| walk.join().unwrap()).collect()
    });
    // That the walks lead anywhere.
    let sum = |of: fn(&Walk) -> usize| walks.iter().map(of).sum::<usize>();
    let (expired, abandoned) = (sum(|walk| walk.deaths), sum(|walk| walk.abandoned));
    assert!(
        expired > 100 && abandoned > 20,
        "{expired} expired, {abandoned} abandoned"
    );
    let (advanced, finished) = (sum(|walk| walk.advanced), sum(|walk| walk.finished_with));
    // A finish takes others along only where all of them stand at the head: about
    // ten times, by what the clock does in between.
    let as_expected = match layout {
        Layout::Rasa => advanced == 0 && finished == 0,
        _ => advanced >= 10 && finished >= 1,
    };
    assert!(
        as_expected,
        "{advanced} advanced, {finished} finished with others"
    );
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Also when the clock of the server is behind the one that gave the last.
#[tokio::test]
async fn tokens_rise_past_a_clock_that_is_behind() {
    let server = Server::start();
    let bench = Bench::new(&server, "a").await;
    bench.fill(1).await;
    let stored = bench
        .backend
        .get(&bench.id)
        .resolve()
        .await
        .unwrap()
        .unwrap();
    let mut tickets: VecDeque<Ticket> = stored.tickets().cloned().collect();
    let ahead = tickets[1].fencing_token.get() + 3_600_000_000;
    tickets[1].fencing_token = lock_store::FencingToken::new(ahead);
    let lock = TicketLock::resumed(bench.id.clone(), tickets, stored.last_token());
    bench.backend.put(lock).resolve().await.unwrap();
    for sequence in 2..5 {
        let Issued::Waiting {
            number,
            fencing_token,
            ..
        } = bench.issue(Bench::ask(sequence)).await
        else {
            panic!("two are there");
        };
        assert_eq!(
            (number, fencing_token.get()),
            (sequence, ahead + sequence - 1)
        );
    }
}

/// A step without what depends on the moment, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Issued(Option<(u64, u64)>),
    Claimed(Option<u64>),
    Finished(Finished),
}

impl Told {
    fn issued(issued: Issued) -> Self {
        Self::Issued(match issued {
            Issued::Served { number, .. } => Some((number, 0)),
            Issued::Waiting { number, ahead, .. } => Some((number, ahead)),
            Issued::Taken => None,
        })
    }

    fn claimed(claimed: Claimed) -> Self {
        Self::Claimed(match claimed {
            Claimed::Served { .. } => Some(0),
            Claimed::Waiting { ahead, .. } => Some(ahead),
            Claimed::Gone => None,
        })
    }
}

/// A conversation of a burst: what the reference has, and who ever had a ticket.
struct Line {
    id: ConversationId,
    reference: TicketLock,
    known: Vec<(Owner, u64)>,
    tokens: Vec<JoinHandle<Option<u64>>>,
}

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(600);

impl Line {
    fn new(id: &str) -> Self {
        let id = ConversationId::new(id).unwrap();
        Self {
            reference: TicketLock::new(id.clone()),
            id,
            known: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Begins a step on the server, and does it on the reference.
    fn step(
        &mut self,
        backend: &RedisLockStore,
        dice: &mut Dice,
        sequence: u64,
        is_issue: bool,
    ) -> (JoinHandle<Result<Told, LockError>>, Told) {
        let (now, changes) = (Timestamp::from_micros(1_000_000), &mut Changes::default());
        let known = match dice.below(4) {
            0 => dice.choose(&self.known),
            _ => {
                let alive: Vec<_> = self.reference.tickets().take(4).collect();
                let alive: Vec<_> = alive
                    .iter()
                    .map(|it| (it.owner.unwrap(), it.number))
                    .collect();
                dice.choose(&alive)
            }
        };
        let kind = dice.below(if is_issue { 4 } else { 10 });
        let Some((owner, number)) = known.filter(|_| kind > 3) else {
            let client = ClientId::from_u64(dice.below(2));
            let owner = Owner { client, sequence };
            let issue = Issue {
                queue: kind > 0,
                ..Issue::new(Some(owner), LONG, LONG)
            };
            let issued = self.reference.issue(&issue, now, changes);
            if let Told::Issued(Some((number, _))) = Told::issued(issued) {
                self.known.push((owner, number));
            }
            let answer = backend.issue(&self.id, &issue).resolve();
            let (told, token) = tokio::sync::oneshot::channel();
            let step = begun(async move {
                let issued = answer.await?;
                if let Issued::Served { fencing_token, .. }
                | Issued::Waiting { fencing_token, .. } = issued
                {
                    told.send(fencing_token.get()).unwrap();
                }
                Ok(Told::issued(issued))
            });
            self.tokens.push(tokio::spawn(async { token.await.ok() }));
            return (step, Told::issued(issued));
        };
        let number = Some(number);
        if kind < 8 {
            let claim = Claim {
                number,
                ..Claim::new(owner, LONG, LONG)
            };
            let (answer, expected) = if kind < 6 {
                let answer = backend.claim(&self.id, &claim);
                (answer, self.reference.claim(&claim, now, changes))
            } else {
                let answer = backend.advance(&self.id, &claim);
                (answer, self.reference.advance(&claim, now, changes))
            };
            let answer = answer.resolve();
            let step = begun(async move { answer.await.map(Told::claimed) });
            (step, Told::claimed(expected))
        } else {
            let first = number.map(|number| number.saturating_sub(dice.below(3)));
            let finish = Finish {
                number,
                first_finished: first.filter(|_| kind == 9),
                ..Finish::new(TicketName::Owner(owner), LONG)
            };
            let expected = self.reference.finish(&finish, now, changes);
            let answer = backend.finish(&self.id, &finish).resolve();
            let step = begun(async move { answer.await.map(Told::Finished) });
            (step, Told::Finished(expected))
        }
    }
}

/// How many scripts and functions the server was asked for.
fn calls(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).text();
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let is_script = name.starts_with("evalsha") || name.starts_with("fcall");
        is_script.then(|| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    });
    calls.sum()
}

/// Many requests under way leave together.
#[tokio::test]
async fn steps_that_leave_together_do_what_the_reference_does() {
    const LINES: usize = 300;
    const ROUNDS: usize = 12;
    let server = Server::start();
    let mut redis = at(&server.url());
    redis.socket_timeout = FOR_EVER;
    let backend = RedisLockStore::connect(&redis).await.unwrap();
    let key = |id: &str| format!("lock-store:tickets:{id}");
    for seed in 0..3 {
        let mut dice = Dice::new(seed);
        let (wrong, garbage) = (format!("wrong-{seed}"), format!("garbage-{seed}"));
        server.command(&["SET", &key(&wrong), "x"]).ok();
        server.command(&["RPUSH", &key(&garbage), "y"]).integer();
        let mut lines: Vec<_> = (0..LINES)
            .map(|i| Line::new(&format!("{seed}-{i}")))
            .collect();
        lines.extend([Line::new(&wrong), Line::new(&garbage)]);
        let before = calls(&server);
        let mut sequence = 0;
        for round in 0..ROUNDS {
            let mut steps = Vec::new();
            for (which, line) in lines.iter_mut().enumerate() {
                // Only issues of one conversation keep their order.
                for further in 0..3 {
                    sequence += 1;
                    let (step, expected) = line.step(&backend, &mut dice, sequence, further > 0);
                    steps.push((which, step, expected));
                    if !matches!(expected, Told::Issued(_)) {
                        break;
                    }
                }
            }
            for (which, step, expected) in steps {
                let told = tokio::time::timeout(FOR_EVER, step).await.unwrap().unwrap();
                if which < LINES {
                    assert_eq!(told.unwrap(), expected, "round {round}, line {which}");
                } else {
                    let error = told.unwrap_err();
                    assert_eq!(error.kind(), LockErrorKind::Corrupt, "{error}");
                }
            }
        }
        let made = calls(&server) - before;
        assert!(made < sequence / 2, "{sequence} steps took {made} calls");
        for line in lines.drain(..LINES) {
            let mut tokens = Vec::new();
            for token in line.tokens {
                tokens.extend(token.await.unwrap());
            }
            assert_rising(tokens);
            let stored = backend.get(&line.id).resolve().await.unwrap();
            let stored = stored.iter().flat_map(TicketLock::tickets);
            let stored = stored.map(|ticket| (ticket.owner, ticket.number));
            let expected = line.reference.tickets();
            assert!(stored.eq(expected.map(|ticket| (ticket.owner, ticket.number))));
        }
        assert_eq!(server.command(&["GET", &key(&wrong)]).text(), "x");
        let elements = server.command(&["LRANGE", &key(&garbage), "0", "-1"]);
        assert_eq!(elements.texts(), ["y"]);
    }
}
