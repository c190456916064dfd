//! A step of a walk, what it is answered, and the dice that choose it.

use std::time::Duration;

use lock_store::{Claim, Claimed, Finish, Finished, Issue, Issued, Ticket};

/// Random numbers that are the same in every run (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(index).unwrap()).copied()
    }
}

/// A step, as both are asked for it.
#[derive(Debug, Clone)]
pub enum Step {
    Issue(Issue),
    Claim(Claim),
    Advance(Claim),
    Finish(Finish),
    Put(Vec<Ticket>),
    Delete,
}

/// An answer without what depends on the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Served {
        number: u64,
        token: u64,
    },
    Waiting {
        ticket: Option<(u64, u64)>,
        ahead: u64,
        look_again: Duration,
    },
    Taken,
    Gone,
    Finished(Finished),
    Deleted(bool),
    Nothing,
}

impl From<Issued> for Told {
    fn from(issued: Issued) -> Self {
        match issued {
            Issued::Served {
                number,
                fencing_token,
            } => Self::Served {
                number,
                token: fencing_token.get(),
            },
            Issued::Waiting {
                number,
                fencing_token,
                ahead,
                look_again,
                ..
            } => Self::Waiting {
                ticket: Some((number, fencing_token.get())),
                ahead,
                look_again,
            },
            Issued::Taken => Self::Taken,
        }
    }
}

impl From<Claimed> for Told {
    fn from(claimed: Claimed) -> Self {
        match claimed {
            Claimed::Served {
                number,
                fencing_token,
            } => Self::Served {
                number,
                token: fencing_token.get(),
            },
            Claimed::Waiting { ahead, look_again } => Self::Waiting {
                ticket: None,
                ahead,
                look_again,
            },
            Claimed::Gone => Self::Gone,
        }
    }
}
