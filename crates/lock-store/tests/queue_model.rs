//! `TicketLock` against a naive model, by random transitions.
//!
//! The model keeps a history of all tickets ever issued, and derives from it
//! who is where; the queue keeps only what it needs.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lock_store::{
    Changes, Claim, Claimed, ClientId, ConversationId, Finish, Issue, Issued, Owner, TicketLock,
    TicketName, Timestamp,
};
use proptest::prelude::*;

const WINDOW: u64 = 500;

/// What may happen to a queue; times in milliseconds, tickets by how many were
/// issued before.
#[derive(Debug, Clone)]
enum Event {
    Issue {
        client: u64,
        lifetime: u64,
        wait: u64,
    },
    IssueByNumber {
        lifetime: u64,
    },
    TryIssue {
        client: u64,
    },
    Repeat {
        ticket: usize,
    },
    Claim {
        ticket: usize,
        lifetime: u64,
    },
    Finish {
        ticket: usize,
    },
    Touch,
    Pass {
        time: u64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..4_u64, 100..3_000_u64, 0..4_000_u64)
            .prop_map(|(client, lifetime, wait)| Event::Issue { client, lifetime, wait }),
        1 => (100..3_000_u64).prop_map(|lifetime| Event::IssueByNumber { lifetime }),
        1 => (0..4_u64).prop_map(|client| Event::TryIssue { client }),
        1 => (0..40_usize).prop_map(|ticket| Event::Repeat { ticket }),
        4 => (0..40_usize, 100..3_000_u64)
            .prop_map(|(ticket, lifetime)| Event::Claim { ticket, lifetime }),
        3 => (0..40_usize).prop_map(|ticket| Event::Finish { ticket }),
        1 => Just(Event::Touch),
        4 => (0..1_200_u64).prop_map(|time| Event::Pass { time }),
    ];
    proptest::collection::vec(event, 1..120)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting { until: u64 },
    Called { until: u64 },
    Served { until: u64 },
    Finished,
    Expired,
    Abandoned,
}

#[derive(Debug, Clone)]
struct Record {
    client: Option<u64>,
    sequence: u64,
    number: u64,
    lifetime: u64,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Model {
    history: Vec<Record>,
    now: u64,
}

impl Model {
    fn alive(&self) -> Vec<usize> {
        let over = [Fate::Finished, Fate::Expired, Fate::Abandoned];
        (0..self.history.len())
            .filter(|&i| !over.contains(&self.history[i].fate))
            .collect()
    }

    /// Whoever touches the queue sees after its head, again and again until
    /// there is nothing more to do. Says who is called.
    fn settle(&mut self) -> Option<usize> {
        loop {
            let head = *self.alive().first()?;
            let now = self.now;
            let record = &mut self.history[head];
            match record.fate {
                Fate::Waiting { until } | Fate::Called { until } | Fate::Served { until }
                    if until <= now =>
                {
                    let was_called = matches!(record.fate, Fate::Called { .. });
                    record.fate = Fate::Expired;
                    let client = record.client;
                    if was_called {
                        for other in self.alive() {
                            if self.history[other].client == client {
                                self.history[other].fate = Fate::Abandoned;
                            }
                        }
                    }
                }
                Fate::Waiting { until } if record.client.is_none() => {
                    record.fate = Fate::Served { until };
                    return None;
                }
                Fate::Waiting { .. } => {
                    let window = WINDOW.min(record.lifetime);
                    record.fate = Fate::Called {
                        until: now + window,
                    };
                    return Some(head);
                }
                _ => return None,
            }
        }
    }

    fn issue(&mut self, client: Option<u64>, lifetime: u64, wait: u64) -> usize {
        let alive = self.alive();
        let number = alive
            .last()
            .map_or(0, |&last| self.history[last].number + 1);
        let fate = match alive.len() {
            0 => Fate::Served {
                until: self.now + lifetime,
            },
            _ => Fate::Waiting {
                until: self.now + wait,
            },
        };
        let sequence = self.history.len() as u64;
        self.history.push(Record {
            client,
            sequence,
            number,
            lifetime,
            fate,
        });
        self.history.len() - 1
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The queue and the model, side by side.
struct Both {
    queue: TicketLock,
    model: Model,
    /// The token of each ticket of the model.
    tokens: Vec<u64>,
}

impl Both {
    fn new() -> Self {
        let queue = TicketLock::new(ConversationId::new("a").unwrap());
        Self {
            queue,
            model: Model::default(),
            tokens: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000 + self.model.now * 1_000)
    }

    fn owner(&self, ticket: usize) -> Option<Owner> {
        let record = &self.model.history[ticket];
        let client = ClientId::from_u64(record.client?);
        Some(Owner {
            client,
            sequence: record.sequence,
        })
    }

    fn ask(owner: Option<Owner>, lifetime: u64, wait: u64) -> Issue {
        Issue {
            owner,
            lifetime: ms(lifetime),
            wait_timeout: ms(wait),
            claim_window: ms(WINDOW),
            queue: true,
            repeated: false,
            least_token: None,
            asked: std::time::Instant::now(),
        }
    }

    fn issue(&mut self, client: Option<u64>, lifetime: u64, wait: u64, queues: bool) {
        let called = self.model.settle();
        let sequence = self.model.history.len() as u64;
        let owner = client.map(|c| Owner {
            client: ClientId::from_u64(c),
            sequence,
        });
        let issue = Issue {
            queue: queues,
            ..Self::ask(owner, lifetime, wait)
        };
        let mut changes = Changes::default();
        let now = self.now();
        let issued = self.queue.issue(&issue, now, &mut changes);
        let called = called.and_then(|ticket| self.owner(ticket));
        assert_eq!(changes.wake, called);
        if issued == Issued::Taken {
            assert!(!queues && !self.model.alive().is_empty());
            return;
        }
        let ticket = self.model.issue(client, lifetime, wait);
        let (number, token) = self.check_issued(ticket, issued);
        assert_eq!(number, self.model.history[ticket].number);
        assert!(
            self.tokens.last().is_none_or(|&last| last < token),
            "tokens rise"
        );
        self.tokens.push(token);
    }

    /// That an issued ticket is told to stand where the model has it.
    fn check_issued(&self, ticket: usize, issued: Issued) -> (u64, u64) {
        let ahead = self
            .model
            .alive()
            .iter()
            .position(|&i| i == ticket)
            .unwrap();
        match issued {
            Issued::Served {
                number,
                fencing_token,
            } => {
                assert_eq!(ahead, 0);
                (number, fencing_token.get())
            }
            Issued::Waiting {
                number,
                fencing_token,
                ahead: told,
                ..
            } => {
                assert_eq!(told, ahead as u64);
                assert!(ahead > 0);
                (number, fencing_token.get())
            }
            Issued::Taken => panic!("told `Taken`"),
        }
    }

    fn repeat(&mut self, ticket: usize) {
        let Some(owner) = self
            .model
            .history
            .get(ticket)
            .and_then(|_| self.owner(ticket))
        else {
            return;
        };
        self.model.settle();
        let alive = self.model.alive();
        let Some(ahead) = alive.iter().position(|&i| i == ticket) else {
            // Dead or done: the reply that was lost is of no use any more.
            let now = self.now();
            let changes = &mut Changes::default();
            return self.queue.drop_dead_heads(now, ms(WINDOW), changes);
        };
        let lifetime = self.model.history[ticket].lifetime;
        let issue = Issue {
            repeated: true,
            ..Self::ask(Some(owner), lifetime, 1)
        };
        let now = self.now();
        let issued = self.queue.issue(&issue, now, &mut Changes::default());
        if ahead == 0 {
            let until = self.model.now + lifetime;
            self.model.history[ticket].fate = Fate::Served { until };
        }
        let (number, token) = self.check_issued(ticket, issued);
        assert_eq!(
            (number, token),
            (self.model.history[ticket].number, self.tokens[ticket])
        );
    }

    fn claim(&mut self, ticket: usize, lifetime: u64) {
        let Some(owner) = self
            .model
            .history
            .get(ticket)
            .and_then(|_| self.owner(ticket))
        else {
            return;
        };
        let called = self.model.settle().filter(|&called| called != ticket);
        let alive = self.model.alive();
        let claim = Claim {
            number: None,
            ..Claim::new(owner, ms(lifetime), ms(WINDOW))
        };
        let mut changes = Changes::default();
        let now = self.now();
        let claimed = self.queue.claim(&claim, now, &mut changes);
        assert_eq!(changes.wake, called.and_then(|called| self.owner(called)));
        match alive.iter().position(|&i| i == ticket) {
            None => assert_eq!(claimed, Claimed::Gone),
            Some(0) => {
                let until = self.model.now + lifetime;
                let record = &mut self.model.history[ticket];
                (record.fate, record.lifetime) = (Fate::Served { until }, lifetime);
                let Claimed::Served {
                    number,
                    fencing_token,
                } = claimed
                else {
                    panic!("the head is told {claimed:?}");
                };
                assert_eq!(
                    (number, fencing_token.get()),
                    (record.number, self.tokens[ticket])
                );
            }
            Some(expected) => {
                let Claimed::Waiting { ahead, look_again } = claimed else {
                    panic!("a waiter is told {claimed:?}");
                };
                assert_eq!(ahead, expected as u64);
                let head = &self.model.history[alive[0]];
                let (Fate::Called { until } | Fate::Served { until }) = head.fate else {
                    panic!("the head is {head:?}");
                };
                assert_eq!(look_again, ms(until - self.model.now));
            }
        }
    }

    fn finish(&mut self, ticket: usize) {
        let Some(record) = self.model.history.get(ticket) else {
            return;
        };
        let was_alive = self.model.alive().contains(&ticket);
        let name = match self.owner(ticket) {
            Some(owner) => TicketName::Owner(owner),
            // Numbers restart: a late release by number is not meant here.
            None if !was_alive => return,
            None => TicketName::Number(record.number),
        };
        if was_alive {
            self.model.history[ticket].fate = Fate::Finished;
        }
        let called = self.model.settle();
        let finish = Finish {
            number: None,
            ..Finish::new(name, ms(WINDOW))
        };
        let mut changes = Changes::default();
        let now = self.now();
        let finished = self.queue.finish(&finish, now, &mut changes);
        assert_eq!(finished.found, was_alive);
        assert_eq!(finished.next, called.and_then(|called| self.owner(called)));
        assert_eq!(changes.wake, finished.next);
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Issue {
                client,
                lifetime,
                wait,
            } => {
                self.issue(Some(client), lifetime, wait, true);
            }
            Event::IssueByNumber { lifetime } => self.issue(None, lifetime, lifetime, true),
            Event::TryIssue { client } => self.issue(Some(client), 1_000, 1_000, false),
            Event::Repeat { ticket } => self.repeat(ticket),
            Event::Claim { ticket, lifetime } => self.claim(ticket, lifetime),
            Event::Finish { ticket } => self.finish(ticket),
            Event::Touch => {
                self.model.settle();
                let now = self.now();
                self.queue
                    .drop_dead_heads(now, ms(WINDOW), &mut Changes::default());
            }
            Event::Pass { time } => self.model.now += time,
        }
    }

    /// No ticket is lost, and none is there twice.
    fn check_queue(&self) {
        let alive = self.model.alive();
        let expected: Vec<_> = alive.iter().map(|&i| self.tokens[i]).collect();
        let tokens: Vec<_> = self
            .queue
            .tickets()
            .map(|t| t.fencing_token.get())
            .collect();
        assert_eq!(tokens, expected);
        let served = |t: &lock_store::Ticket| t.state != lock_store::TicketState::Waiting;
        assert!(
            !self.queue.tickets().skip(1).any(served),
            "only the head is served"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_queue_does_what_the_model_does(events in events()) {
        let mut both = Both::new();
        for event in &events {
            both.happens(event);
            both.check_queue();
        }
    }

    /// However many tickets a dead client had, and wherever they stood.
    #[test]
    fn a_dead_client_costs_one_claim_window(
        dead in proptest::collection::vec(any::<bool>(), 1..50),
        wait in 60_000..100_000_u64,
    ) {
        let mut both = Both::new();
        both.issue(Some(9), 1_000, wait, true);
        for &dead in &dead {
            both.issue(Some(u64::from(dead)), 1_000, wait, true);
        }
        both.finish(0);
        let mut windows = 0;
        while let Some(&head) = both.model.alive().first() {
            if both.model.history[head].client == Some(0) {
                both.claim(head, 1_000);
                both.finish(head);
            } else {
                windows += 1;
                both.model.now += WINDOW;
                both.happens(&Event::Touch);
            }
        }
        prop_assert!(windows <= 1, "{windows} claim windows");
        prop_assert!(both.queue.is_empty());
    }

    #[test]
    fn json_keeps_everything(events in events()) {
        let mut both = Both::new();
        for event in &events {
            both.happens(event);
        }
        let read = TicketLock::from_json(&both.queue.to_json()).unwrap();
        prop_assert!(read.tickets().eq(both.queue.tickets()));
        prop_assert_eq!(read.conversation_id(), both.queue.conversation_id());
    }
}
