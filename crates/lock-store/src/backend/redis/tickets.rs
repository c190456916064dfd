//! The steps of a ticket, as the rest of the library asks for them: what is
//! asked of the scripts, and what their answers come to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::connect::within;
use super::doubts::Doubts;
use super::element;
use super::replicas::Replicas;
use super::scripts::{self, Answer, Ask};
use super::steps::Steps;
use super::wakeups::Wakeups;
use crate::backend::{Claim, Claimed, Finish, Finished, Issue, Issued, TicketName};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::telemetry;
use crate::ticket::{Changes, TicketLock};

/// How often a ticket is given back that may still be issued.
const AGAIN: Duration = Duration::from_secs(1);

/// What the steps need, besides a connection.
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
        self.wakeups.answer_within(issue.claim_window);
        let claim_window = issue.claim_window;
        let mut watch = self.doubts.watch(issue.owner);
        let ask = Ask::Issue(issue);
        let done = self
            .steps
            .run(id, &ask, limit, |generation, until| {
                watch.asked(generation, until);
            })
            .await?;
        watch.answered(done.generation);
        // Where it is no list nothing can be removed from it without a script.
        let is_list = self.steps.scripts.are_lists();
        let was_alone = is_list && scripts::was_alone(&done.reply);
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
                let lifetime = issue.lifetime;
                self.wakeups.alone.served(owner, lifetime, fencing_token);
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
                // Its turn may come meanwhile.
                let heard_by = limit.min(Instant::now() + claim_window / 3);
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
        self.wakeups.alone.take(claim.owner);
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
        let ask = Ask::Finish(Finish {
            ticket,
            number: None,
            claim_window,
            patience: None,
        });
        let limit = Instant::now() + self.steps.timeout();
        if let Err(error) = self.finish_once(id, &ask, limit).await {
            telemetry::release_failed(id, &error);
        }
    }

    pub(super) async fn finish(
        self: &Arc<Self>,
        id: &ConversationId,
        finish: Finish,
    ) -> Result<Finished, LockError> {
        let limit = Instant::now() + finish.patience.unwrap_or(self.steps.timeout());
        let TicketName::Owner(owner) = finish.ticket else {
            let ask = Ask::Finish(finish);
            return Ok(self.finish_once(id, &ask, limit).await?.0);
        };
        let is_awaited = finish.patience.is_none();
        let (finished, generation) = match self.leave_alone(id, owner, limit).await? {
            Leaving::Left(finished, generation) => (finished, generation),
            Leaving::IsThere { in_doubt } => {
                let ask = Ask::Finish(finish.clone());
                let (mut finished, generation) = self.finish_once(id, &ask, limit).await?;
                if in_doubt && !finished.found {
                    (finished.found, finished.in_doubt) = (true, true);
                }
                (finished, generation)
            }
        };
        let Some(until) = self.doubts.until(owner, generation) else {
            self.doubts.forget(owner);
            return Ok(finished);
        };
        let again = self.clone().finish_until(until, id.clone(), owner, finish);
        if is_awaited {
            tokio::spawn(again);
        } else {
            again.await;
        }
        Ok(finished)
    }

    /// Gives a ticket back again and again, as long as it may still be issued.
    async fn finish_until(
        self: Arc<Self>,
        until: Instant,
        id: ConversationId,
        owner: Owner,
        finish: Finish,
    ) {
        let ask = Ask::Finish(finish);
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + AGAIN)).await;
            let limit = until + self.steps.timeout();
            if let Err(error) = self.finish_once(&id, &ask, limit).await {
                telemetry::release_failed(&id, &error);
                break;
            }
        }
        self.doubts.forget(owner);
    }

    /// Gives a ticket back that nobody waits behind, if it is such a one.
    async fn leave_alone(
        &self,
        id: &ConversationId,
        owner: Owner,
        limit: Instant,
    ) -> Result<Leaving, LockError> {
        let Some(element) = self.wakeups.alone.take(owner) else {
            return Ok(Leaving::IsThere { in_doubt: false });
        };
        let ask = Ask::Leave(element);
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        if !matches!(done.reply, Value::Int(1)) {
            let in_doubt = done.repeated;
            return Ok(Leaving::IsThere { in_doubt });
        }
        telemetry::deleted(id);
        let finished = Finished {
            found: true,
            in_doubt: false,
            next: None,
        };
        Ok(Leaving::Left(finished, done.generation))
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
        if let Some(next) = finished.next.filter(|_| done.elsewhere) {
            self.tell(id, "turn", next).await;
        }
        Ok((finished, done.generation))
    }

    /// Tells an owner something at the node that has the slot, besides what a
    /// script said: it may have said so at the one to which the slot is moving,
    /// where nobody listens yet.
    pub(super) async fn tell(&self, id: &ConversationId, word: &str, owner: Owner) {
        let steps = &self.steps;
        let links = steps.route.links_for(id);
        let Some(mut live) = links.and_then(|links| links[0].live()) else {
            return;
        };
        let mut publish = redis::cmd(steps.scripts.publish);
        publish
            .arg(steps.keys.channel_for(id, owner.client))
            .arg(format!("{word} {owner} {}", steps.keys.queue(id)));
        // A call that is lost costs time.
        let told: redis::RedisResult<Value> =
            within(steps.timeout(), publish.query_async(&mut live.connection)).await;
        drop(told);
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
    /// It was, and over which connection it left.
    Left(Finished, u64),
    /// It was not, or is not as it was: the script sees to it. It may have been
    /// removed by an attempt that had no answer.
    IsThere { in_doubt: bool },
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

pub(super) fn strange_reply(id: &ConversationId) -> LockError {
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

/// A call for a ticket that nobody here waits for. If its request was given up,
/// it was done all the same; else the call comes late, and its owner has given
/// the ticket back by now, or is about to.
pub(super) fn give_back(core: &Weak<Core>, id: ConversationId, owner: Owner) {
    let Some(core) = core.upgrade().filter(|core| core.doubts.has(owner)) else {
        return;
    };
    tokio::spawn(async move {
        let ticket = TicketName::Owner(owner);
        core.leave(&id, ticket, DEFAULT_CLAIM_WINDOW).await;
    });
}
