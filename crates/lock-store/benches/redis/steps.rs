//! What a step costs the server, by its own count, with few waiters and with
//! many.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::future::join_all;
use lock_store::{
    Backend, Claim, Claimed, ClientId, ConversationId, Finish, Issue, Issued, Listener, Owner,
    RedisConfig, RedisLockStore, TicketName, WakeUp,
};

use crate::contender::{Contender, LIFETIME};
use crate::figures::{Figures, Kind};
use crate::server::{Done, Watched};

/// Queues of the same length. Each step is done in one after the other, between
/// two looks at the server's count.
pub(crate) struct Queues {
    backend: RedisLockStore,
    client: ClientId,
    _listener: Arc<dyn Listener>,
    sequence: u64,
    all: Vec<Queue>,
    waiters: usize,
}

struct Queue {
    id: ConversationId,
    tickets: VecDeque<(Owner, u64)>,
}

/// Steps are what is measured, so nobody acts on a call.
struct Deaf;

impl Listener for Deaf {
    fn wake_up(&self, _event: WakeUp) -> bool {
        true
    }
}

pub(crate) const SERVER: Kind = Kind("a step");
pub(crate) const ALONE: [&str; 2] = ["lock, alone", "release, alone"];

/// The steps, as the tables call them.
pub(crate) const STEPS: [(&str, &str); 5] = [
    ("finish", "finish, and call the next"),
    ("claim", "claim, of the one that was called"),
    ("issue", "issue, at the end"),
    ("look", "claim, of one in the middle: it waits"),
    ("leave", "finish, of one in the middle"),
];

impl Queues {
    pub(crate) async fn fill(url: &str, queues: usize, waiters: usize) -> Self {
        let backend = RedisLockStore::connect(&RedisConfig::from_url(url)).await;
        let (backend, client) = (backend.unwrap(), ClientId::random());
        let listener: Arc<dyn Listener> = Arc::new(Deaf);
        let weak: Weak<dyn Listener> = Arc::downgrade(&listener);
        backend.wake_ups(client, weak);
        let queue = |number| Queue {
            id: ConversationId::new(format!("queue-{waiters}-{number}")).unwrap(),
            tickets: VecDeque::with_capacity(waiters + 2),
        };
        let mut filled = Self {
            backend,
            client,
            _listener: listener,
            sequence: 0,
            all: (0..queues).map(queue).collect(),
            waiters,
        };
        for index in 0..queues {
            for first in (0..=waiters).step_by(500) {
                let more = 500.min(waiters + 1 - first);
                filled.issue(index, more).await;
            }
            // They were asked for at once.
            let tickets = filled.all[index].tickets.make_contiguous();
            tickets.sort_unstable_by_key(|(_, number)| *number);
        }
        filled
    }

    /// So many more tickets of a queue, asked for at once.
    async fn issue(&mut self, queue: usize, tickets: usize) {
        let Queue { id, .. } = &self.all[queue];
        let owners: Vec<_> = (0..tickets)
            .map(|_| {
                self.sequence += 1;
                Owner {
                    client: self.client,
                    sequence: self.sequence,
                }
            })
            .collect();
        let asked = owners.iter().map(|&owner| {
            let issue = Issue {
                owner: Some(owner),
                lifetime: LIFETIME,
                wait_timeout: LIFETIME,
                claim_window: LIFETIME,
                queue: true,
                repeated: false,
                least_token: None,
                asked: Instant::now(),
            };
            self.backend.issue(id, &issue).resolve()
        });
        let answers = join_all(asked).await;
        for (owner, answer) in owners.into_iter().zip(answers) {
            let (Issued::Served { number, .. } | Issued::Waiting { number, .. }) = answer.unwrap()
            else {
                unreachable!("it was to queue")
            };
            self.all[queue].tickets.push_back((owner, number));
        }
    }

    async fn claim(&self, queue: usize, ticket: usize) -> Claimed {
        let Queue { id, tickets } = &self.all[queue];
        let (owner, number) = tickets[ticket];
        let claim = Claim {
            number: Some(number),
            ..Claim::new(owner, LIFETIME, LIFETIME)
        };
        self.backend.claim(id, &claim).resolve().await.unwrap()
    }

    async fn finish(&mut self, queue: usize, ticket: usize) {
        let Queue { id, tickets } = &mut self.all[queue];
        let (owner, number) = tickets.remove(ticket).unwrap();
        let finish = Finish {
            number: Some(number),
            ..Finish::new(TicketName::Owner(owner), LIFETIME)
        };
        let finished = self.backend.finish(id, &finish).resolve().await.unwrap();
        assert!(finished.found, "the ticket was not there");
    }

    /// A round: a lock goes on to the next, somebody looks, somebody leaves.
    pub(crate) async fn measure(
        &mut self,
        server: &Watched,
        repetitions: usize,
        figures: &mut Figures,
    ) {
        let mut sums = [Done::default(); STEPS.len()];
        for _ in 0..repetitions {
            for (step, sum) in sums.iter_mut().enumerate() {
                server.command(&["CONFIG", "RESETSTAT"]).ok();
                for queue in 0..self.all.len() {
                    match step {
                        0 => self.finish(queue, 0).await,
                        1 => {
                            let claimed = self.claim(queue, 0).await;
                            assert!(matches!(claimed, Claimed::Served { .. }), "{claimed:?}");
                        }
                        2 => self.issue(queue, 1).await,
                        3 => {
                            self.claim(queue, self.waiters / 2).await;
                        }
                        _ => self.finish(queue, self.waiters / 2).await,
                    }
                }
                let done = server.done("evalsha");
                sum.calls += done.calls;
                sum.micros += done.micros;
            }
            for queue in 0..self.all.len() {
                self.issue(queue, 1).await;
            }
        }
        for ((step, _), sum) in STEPS.into_iter().zip(sums) {
            figures.add(SERVER.of(step), self.waiters, sum.micros_each());
        }
    }

    pub(crate) async fn empty(self) {
        for Queue { id, .. } in &self.all {
            self.backend.delete(id).resolve().await.unwrap();
        }
    }
}

/// What lock and release cost the server when nobody else is there.
pub(crate) async fn alone<C: Contender>(
    contender: &mut C,
    server: &Watched,
    cycles: usize,
    figures: &mut Figures,
) {
    // All that any of them sends, and that no script calls then.
    let micros = || {
        let sent = ["evalsha", "eval", "set", "lrem"];
        sent.map(|command| server.done(command).micros)
            .into_iter()
            .sum::<f64>()
    };
    server.command(&["CONFIG", "RESETSTAT"]).ok();
    let mut held = Vec::with_capacity(cycles);
    for conversation in 0..cycles {
        held.push(contender.lock(&format!("alone-{conversation}")).await);
    }
    let locked = micros();
    for held in held {
        contender.release(held).await;
    }
    let released = micros() - locked;
    for (step, micros) in ALONE.into_iter().zip([locked, released]) {
        #[allow(clippy::cast_precision_loss)]
        figures.add(SERVER.of(step), C::NAME, micros / cycles as f64);
    }
}
