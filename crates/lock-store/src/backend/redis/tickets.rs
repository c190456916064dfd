//! The steps of a ticket, as the rest of the library asks for them: what is
//! asked of the scripts, and what their answers come to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::doubts::Doubts;
use super::element;
use super::replicas::Replicas;
use super::scripts::{self, Answer, Ask};
use super::steps::Steps;
use super::wakeups::{Response, Wakeups};
use crate::backend::{Claim, Claimed, Finish, Finished, Issue, Issued, TicketName};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::telemetry;
use crate::ticket::{Changes, TicketLock};

pub(super) struct Core {
    pub(super) steps: Arc<Steps>,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) doubts: Doubts,
    pub(super) replicas: Option<Replicas>,
}

impl Core {
    pub(super) async fn issue(
        self: Arc<Self>,
        id: &ConversationId,
        issue: Issue,
    ) -> Result<Issued, LockError> {
        let asked = Instant::from_std(issue.asked);
        let timeout = self.steps.timeout();
        // Whoever does not queue does not wait, either.
        let patience = match issue.wait_timeout {
            Duration::ZERO => timeout,
            wait if issue.queue => wait,
            wait => wait.min(timeout),
        };
        let limit = asked + patience;
        let mut watch = self.doubts.watch(issue.owner);
        let ask = Ask::Issue(issue);
        let done = self
            .steps
            .run(id, &ask, limit, |generation, until| {
                watch.asked(generation, until);
            })
            .await?;
        watch.answered();
        let was_alone = scripts::was_alone(&done.reply);
        let answer = scripts::read_issue(done.reply).ok_or_else(|| strange_reply(id))?;
        let Ask::Issue(issue) = ask else {
            return Ok(answer.of);
        };
        let issued = told(id, answer);
        let Some(owner) = issue.owner else {
            return Ok(issued);
        };
        let claim = |number| Claim {
            owner,
            number: Some(number),
            lifetime: issue.lifetime,
            claim_window: issue.claim_window,
            asked: issue.asked,
        };
        if matches!(issued, Issued::Served { .. }) {
            self.wakeups.hear_soon(id);
        }
        match issued {
            Issued::Served { fencing_token, .. } if was_alone && self.replicas.is_none() => {
                if self.wakeups.hears_followers() {
                    let lifetime = issue.lifetime;
                    self.wakeups.alone.served(owner, lifetime, fencing_token);
                }
            }
            Issued::Served { number, .. } => {
                if let Err(error) = self.replicated(id, claim(number)).await {
                    let ticket = TicketName::Owner(owner);
                    self.leave(id, ticket, issue.claim_window).await;
                    return Err(error);
                }
            }
            Issued::Waiting {
                number,
                fencing_token,
                ..
            } => {
                let heard_by = limit.min(Instant::now() + timeout);
                if self.wakeups.hear(id, heard_by).await {
                    // Its turn may have come before its call could be heard.
                    let claimed = self.claim(id, claim(number)).await?;
                    return Ok(as_issued(claimed, number, fencing_token));
                }
            }
            Issued::Taken => {}
        }
        Ok(issued)
    }

    pub(super) async fn claim(
        &self,
        id: &ConversationId,
        claim: Claim,
    ) -> Result<Claimed, LockError> {
        self.wakeups.alone.changed(claim.owner);
        let limit = Instant::now() + self.steps.timeout().min(claim.lifetime);
        let ask = Ask::Claim(claim);
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        let answer = scripts::read_claim(done.reply).ok_or_else(|| strange_reply(id))?;
        let claimed = told(id, answer);
        if let (Claimed::Served { .. }, Ask::Claim(claim)) = (claimed, ask) {
            self.replicated(id, claim).await?;
        }
        Ok(claimed)
    }

    /// An acquisition counts when enough replicas have it.
    async fn replicated(&self, id: &ConversationId, claim: Claim) -> Result<(), LockError> {
        match &self.replicas {
            Some(replicas) => replicas.have(&self.steps, id, claim).await,
            None => Ok(()),
        }
    }

    /// Gives a ticket back that does not count.
    async fn leave(&self, id: &ConversationId, ticket: TicketName, claim_window: Duration) {
        let finish = Finish {
            ticket,
            number: None,
            claim_window,
            patience: None,
        };
        if let Err(error) = self.finish(id, finish).await {
            telemetry::release_failed(id, &error);
        }
    }

    pub(super) async fn finish(
        &self,
        id: &ConversationId,
        finish: Finish,
    ) -> Result<Finished, LockError> {
        let patience = finish.patience.unwrap_or(self.steps.timeout());
        let limit = Instant::now() + patience;
        let doubt = match finish.ticket {
            TicketName::Owner(owner) => self.doubts.take(owner),
            TicketName::Number(_) | TicketName::Nobodys => None,
        };
        let mut in_doubt = false;
        if let TicketName::Owner(owner) = finish.ticket {
            match self.leave_alone(id, owner, limit).await? {
                Leaving::Left(finished) => return Ok(finished),
                Leaving::IsThere { in_doubt: doubt } => in_doubt = doubt,
            }
        }
        let ask = Ask::Finish(finish);
        let (mut finished, generation) = self.finish_once(id, &ask, limit).await?;
        if let Some(doubt) = doubt.filter(|doubt| doubt.generation != generation)
            && (!finished.found || finished.in_doubt)
        {
            tokio::time::sleep_until(doubt.until).await;
            let limit = Instant::now() + patience;
            (finished, _) = self.finish_once(id, &ask, limit).await?;
        }
        if in_doubt && !finished.found {
            (finished.found, finished.in_doubt) = (true, true);
        }
        Ok(finished)
    }

    /// Gives a ticket back that nobody waits behind, if it is such a one.
    async fn leave_alone(
        &self,
        id: &ConversationId,
        owner: Owner,
        limit: Instant,
    ) -> Result<Leaving, LockError> {
        let alone = &self.wakeups.alone;
        let Some(element) = alone.leave(owner) else {
            return Ok(Leaving::IsThere { in_doubt: false });
        };
        let ask = Ask::Leave(element);
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        let followed = alone.left(owner);
        if !matches!(done.reply, Value::Int(1)) {
            let in_doubt = done.repeated;
            return Ok(Leaving::IsThere { in_doubt });
        }
        let mut finished = Finished {
            found: true,
            in_doubt: false,
            next: None,
        };
        if followed {
            let ask = Ask::Finish(Finish {
                ticket: TicketName::Nobodys,
                number: None,
                claim_window: DEFAULT_CLAIM_WINDOW,
                patience: None,
            });
            finished.next = self.finish_once(id, &ask, limit).await?.0.next;
        } else {
            telemetry::deleted(id);
        }
        Ok(Leaving::Left(finished))
    }

    async fn finish_once(
        &self,
        id: &ConversationId,
        ask: &Ask,
        limit: Instant,
    ) -> Result<(Finished, u64), LockError> {
        let done = self.steps.run(id, ask, limit, |_, _| ()).await?;
        let answer = scripts::read_finish(done.reply).ok_or_else(|| strange_reply(id))?;
        let (mut finished, is_empty) = told(id, answer);
        if is_empty && finished.found {
            telemetry::deleted(id);
        }
        if done.repeated && !finished.found {
            (finished.found, finished.in_doubt) = (true, true);
        }
        Ok((finished, done.generation))
    }

    pub(super) async fn get(&self, id: &ConversationId) -> Result<Option<TicketLock>, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self.steps.run(id, &Ask::Get, limit, |_, _| ()).await?;
        let elements: Vec<Vec<u8>> =
            redis::from_redis_value(done.reply).map_err(|_| strange_reply(id))?;
        if elements.is_empty() {
            return Ok(None);
        }
        let key = self.steps.keys.queue(id);
        element::read_queue(id, &key, &elements).map(Some)
    }

    pub(super) async fn put(&self, lock: &TicketLock) -> Result<(), LockError> {
        let id = lock.conversation_id();
        let limit = Instant::now() + self.steps.timeout();
        let ask = Ask::Put {
            claim_window: DEFAULT_CLAIM_WINDOW,
            elements: lock.tickets().map(element::write).collect(),
        };
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        let changes = scripts::read_put(done.reply).ok_or_else(|| strange_reply(id))?;
        told(id, Answer { of: (), changes });
        Ok(())
    }

    pub(super) async fn delete(&self, id: &ConversationId) -> Result<bool, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self.steps.run(id, &Ask::Delete, limit, |_, _| ()).await?;
        let found = matches!(done.reply, Value::Int(1));
        if found {
            telemetry::deleted(id);
        }
        Ok(found || done.repeated)
    }
}

/// What became of a ticket that may be alone.
enum Leaving {
    Left(Finished),
    /// It was not, or is not as it was: the script sees to it. It may have been
    /// removed by an attempt that had no answer.
    IsThere {
        in_doubt: bool,
    },
}

/// Reports what a step did to others.
fn told<T>(id: &ConversationId, answer: Answer<T>) -> T {
    let Answer { of, changes } = answer;
    let Changes {
        expired, abandoned, ..
    } = &changes;
    if !expired.is_empty() || !abandoned.is_empty() {
        telemetry::expired(id, &changes);
    }
    of
}

fn strange_reply(id: &ConversationId) -> LockError {
    LockError::unavailable("Redis answered a script of ours with something else")
        .for_conversation(id)
}

fn as_issued(claimed: Claimed, number: u64, fencing_token: FencingToken) -> Issued {
    match claimed {
        Claimed::Served {
            number,
            fencing_token,
        } => Issued::Served {
            number,
            fencing_token,
        },
        Claimed::Waiting { ahead, look_again } => Issued::Waiting {
            number,
            fencing_token,
            ahead,
            look_again,
        },
        // It went while we subscribed: looking finds that out at once.
        Claimed::Gone => Issued::Waiting {
            number,
            fencing_token,
            ahead: 0,
            look_again: Duration::ZERO,
        },
    }
}

/// Does what a call asks for: a ticket that nobody waits for was asked for by
/// somebody who gave up, and was issued all the same.
pub(super) fn respond(core: &Weak<Core>, response: Response, id: ConversationId, owner: Owner) {
    let Some(core) = core.upgrade() else {
        return;
    };
    let ticket = match response {
        Response::GiveBack => TicketName::Owner(owner),
        Response::SeeAfter => TicketName::Nobodys,
    };
    tokio::spawn(async move { core.leave(&id, ticket, DEFAULT_CLAIM_WINDOW).await });
}
