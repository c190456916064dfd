//! What a walk does next.

use std::time::{Duration, Instant};

use lock_store::{Backend, Claim, ClientId, Finish, Issue, Owner, TicketName};

use super::step::Step;
use super::{CLIENTS, Walk, ms};

impl Walk {
    /// What comes next.
    pub fn think(&mut self) -> Step {
        let alive: Vec<_> = self
            .reference
            .tickets()
            .filter_map(|t| Some((t.owner?, t.number)))
            .collect();
        match self.dice.below(100) {
            0..45 => self.issue(),
            45..60 if self.backend.hands_over() => match self.one_of_the_first(&alive) {
                Some(whose) => {
                    let Step::Claim(claim) = self.claim(whose) else {
                        unreachable!("it is a claim");
                    };
                    Step::Advance(claim)
                }
                None => self.issue(),
            },
            45..72 => match self.whose(&alive) {
                Some(whose) => self.claim(whose),
                None => self.issue(),
            },
            72..95 => {
                let whose = match self.dice.below(2) {
                    0 => self.whose(&alive),
                    _ => self.one_of_the_first(&alive),
                };
                let by_number = self.dice.one_in(2);
                let (ticket, number) = match (self.dice.below(10), whose) {
                    (0, _) => (TicketName::Nobodys, None),
                    (1..4, _) => {
                        let numbers: Vec<_> = self.reference.tickets().map(|t| t.number).collect();
                        let number = self.dice.choose(&numbers).unwrap_or(3);
                        (TicketName::Number(number), None)
                    }
                    (_, Some((owner, number))) => {
                        if self.backend.hands_over() && self.dice.one_in(2) {
                            let first = number.saturating_sub(1 + self.dice.below(3));
                            return Step::Finish(Finish {
                                number: Some(number),
                                first_finished: Some(first),
                                ..Finish::new(TicketName::Owner(owner), self.window)
                            });
                        }
                        (TicketName::Owner(owner), by_number.then_some(number))
                    }
                    (_, None) => return self.issue(),
                };
                Step::Finish(Finish {
                    number,
                    ..Finish::new(ticket, self.window)
                })
            }
            95..98 => {
                let mut tickets: Vec<_> = self.reference.tickets().cloned().collect();
                let kept: Vec<_> = tickets.iter().map(|_| !self.dice.one_in(3)).collect();
                let mut kept = kept.iter();
                tickets.retain(|_| *kept.next().unwrap());
                Step::Put(tickets)
            }
            _ => Step::Delete,
        }
    }

    /// The head, somebody in the queue, or somebody who was there once.
    fn whose(&mut self, alive: &[(Owner, u64)]) -> Option<(Owner, u64)> {
        let anybody = if self.dice.one_in(4) {
            &self.known
        } else {
            alive
        };
        if self.dice.one_in(2) {
            alive.first().copied()
        } else {
            self.dice.choose(anybody)
        }
    }

    /// One that may follow tickets of its own client alone; or anybody.
    fn one_of_the_first(&mut self, alive: &[(Owner, u64)]) -> Option<(Owner, u64)> {
        if self.dice.one_in(5) {
            return self.whose(alive);
        }
        self.dice.choose(&alive[..alive.len().min(4)])
    }

    fn issue(&mut self) -> Step {
        let lifetime = ms(30 + self.dice.below(220));
        // One without any wait dies in the middle of the queue.
        let wait = match self.dice.below(4) {
            0 => Duration::ZERO,
            _ => ms(60 + self.dice.below(300)),
        };
        let repeated = self.dice.one_in(10);
        let again = self.dice.choose(&self.known).filter(|_| repeated);
        let owner = match again {
            Some((owner, _)) => Some(owner),
            None if self.dice.one_in(8) => None,
            None => {
                self.sequence += 1;
                // Most are of one client, and mostly follow each other.
                let client = self.dice.below(2) * self.dice.below(CLIENTS);
                let client = ClientId::from_u64(client);
                Some(Owner {
                    client,
                    sequence: self.sequence,
                })
            }
        };
        Step::Issue(Issue {
            owner,
            lifetime,
            wait_timeout: wait,
            claim_window: self.window,
            queue: !self.dice.one_in(8),
            repeated: again.is_some(),
            least_token: None,
            asked: Instant::now(),
        })
    }

    fn claim(&mut self, (owner, number): (Owner, u64)) -> Step {
        Step::Claim(Claim {
            number: (!self.dice.one_in(3)).then_some(number),
            ..Claim::new(owner, ms(30 + self.dice.below(220)), self.window)
        })
    }
}
