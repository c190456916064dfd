//! Doing a step: sent, and sent again until it is done or its caller's limit
//! has come. Every step may be done twice, so that a lost reply costs only time.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, Node};
use super::element;
use super::keys::Keys;
use super::link::{Link, Live};
use super::pauses::{Pauses, SENDING};
use super::route::{Links, Route};
use super::scripts::{self, Ask, Scripts, Times, Turn};
use super::trouble::{Verdict, judge, plain};
use crate::error::LockError;
use crate::identity::ConversationId;

/// What every step needs.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) keys: Keys,
    pub(super) scripts: Arc<Scripts>,
    pub(super) connector: Arc<Connector>,
    pub(super) route: Route,
}

/// A step that was done.
pub(super) struct Done {
    pub(super) reply: Value,
    /// The connection over which it was done.
    pub(super) generation: u64,
    /// Whether an earlier attempt may have done it already.
    pub(super) repeated: bool,
    /// Whether it was done by another node than the one that calls come from.
    pub(super) elsewhere: bool,
}

/// A step under way.
struct Attempt<'s> {
    steps: &'s Steps,
    id: &'s ConversationId,
    limit: Instant,
    repeated: bool,
    by_text: bool,
    /// A node to ask instead, once.
    elsewhere: Option<Node>,
    pauses: Pauses,
    trouble: Option<String>,
}

impl Steps {
    /// How long one reply may take.
    pub(super) fn timeout(&self) -> Duration {
        self.connector.timeout
    }

    /// Does a step. `seen` learns of each connection that it is tried over.
    ///
    /// # Errors
    ///
    /// Unavailable no later than `limit`; or what is stored is damaged.
    pub(super) async fn run(
        &self,
        id: &ConversationId,
        ask: &Ask,
        limit: Instant,
        mut seen: impl FnMut(u64, Instant),
    ) -> Result<Done, LockError> {
        let key = self.keys.queue(id);
        let mut attempt = Attempt {
            steps: self,
            id,
            limit,
            repeated: false,
            by_text: false,
            elsewhere: None,
            pauses: SENDING,
            trouble: None,
        };
        loop {
            let (links, mut live) = attempt.connection().await?;
            let turn = if self.scripts.are_lists() {
                None
            } else {
                attempt.turn(ask).await?
            };
            let link = link_for(&links, id);
            let now = Instant::now();
            let ends = limit.min(now + self.timeout());
            seen(live.generation, ends);
            let times = Times {
                until: link.server_time() + ends.saturating_duration_since(now),
                repeated: attempt.repeated,
            };
            let command = self.scripts.command(ask, &key, attempt.by_text, &times);
            let asking = attempt.elsewhere.take().is_some();
            let answer = if self.scripts.are_lists() {
                timeout_at(ends, exchange(link, &mut live, command, asking)).await
            } else {
                // What is not a list has to be known to the letter the next
                // time; so the answer counts even if its caller goes away.
                let (scripts, links) = (self.scripts.clone(), links.clone());
                let (id, ask, key) = (id.clone(), ask.clone(), key.clone());
                let mut live = live.clone();
                let answered = see_through(async move {
                    let link = link_for(&links, &id);
                    let answer = exchange(link, &mut live, command, asking);
                    let answer = timeout_at(ends, answer).await;
                    let answer = answer.map(|it| it.map(|reply| scripts.answer(&ask, &key, reply)));
                    drop(turn);
                    answer
                });
                answered.await.unwrap_or_else(|| Ok(Err(broken())))
            };
            match answer {
                Ok(Ok(reply)) => {
                    match scripts::too_late(&reply).filter(|_| matches!(ask, Ask::Issue(_))) {
                        None => {
                            return Ok(Done {
                                reply,
                                generation: live.generation,
                                repeated: attempt.repeated,
                                elsewhere: asking,
                            });
                        }
                        // By a clock that is not what we took it for.
                        Some(now) => {
                            attempt.trouble = Some("it was asked too late".into());
                            link.set_server_time(now);
                        }
                    }
                }
                Ok(Err(error)) => attempt.failed(link, &live, &error, &key).await?,
                Err(_) => attempt.unanswered(link, &live),
            }
        }
    }
}

/// A conversation always uses the same link of a server.
pub(super) fn link_for<'l>(links: &'l Links, id: &ConversationId) -> &'l Link {
    let (_, index) = id.place(links.len());
    &links[index]
}

impl Attempt<'_> {
    /// Waits for a connection to whoever has the conversation.
    async fn connection(&mut self) -> Result<(Links, Live), LockError> {
        loop {
            let route = &self.steps.route;
            let links = match &self.elsewhere {
                Some(node) => route.links_of(node),
                None => route.links_for(self.id),
            };
            if let Some(links) = links {
                let link = link_for(&links, self.id);
                if let Some(live) = link.live() {
                    if Instant::now() >= self.limit && self.trouble.is_some() {
                        return Err(self.out_of_time());
                    }
                    return Ok((links, live));
                }
                route.doubt();
                tokio::select! {
                    live = link.connected() => return Ok((links.clone(), live)),
                    () = route.renewed() => {}
                    () = tokio::time::sleep(SENDING.longest()) => {}
                    () = tokio::time::sleep_until(self.limit) => {
                        if let Some(trouble) = link.trouble() {
                            self.trouble = Some(trouble.text);
                        }
                        return Err(self.out_of_time());
                    }
                }
                self.elsewhere = None;
                continue;
            }
            self.elsewhere = None;
            route.doubt();
            tokio::select! {
                () = route.renewed() => {}
                () = tokio::time::sleep(SENDING.longest()) => {}
                () = tokio::time::sleep_until(self.limit) => return Err(self.out_of_time()),
            }
        }
    }

    /// Waits until no other step of the same owner is under way.
    async fn turn(&mut self, ask: &Ask) -> Result<Option<Turn>, LockError> {
        let turn = unconstrained(self.steps.scripts.turn(ask));
        timeout_at(self.limit, turn).await.map_err(|_| {
            self.trouble = Some("no answer to the step before".into());
            self.out_of_time()
        })
    }

    fn out_of_time(&mut self) -> LockError {
        let trouble = self.trouble.take();
        let trouble = trouble.unwrap_or_else(|| "no server has the conversation".into());
        LockError::unavailable(trouble).for_conversation(self.id)
    }

    /// No reply came. A connection that was silent for the whole of a timeout
    /// is replaced.
    fn unanswered(&mut self, link: &Link, live: &Live) {
        self.repeated = true;
        self.trouble = Some("no answer in time".into());
        if Instant::now() < self.limit {
            link.give_up(live.generation);
            self.steps.route.doubt();
        }
    }

    async fn failed(
        &mut self,
        link: &Link,
        live: &Live,
        error: &RedisError,
        key: &str,
    ) -> Result<(), LockError> {
        self.trouble = Some(plain(error));
        let route = &self.steps.route;
        match judge(error) {
            Verdict::NoScript => self.by_text = true,
            Verdict::Moved(slot, node) => route.moved(slot, &node),
            Verdict::Ask(node) => self.elsewhere = Some(node),
            Verdict::Reconnect => {
                self.repeated = true;
                link.give_up(live.generation);
                route.doubt();
            }
            Verdict::NewMaster => {
                link.give_up(live.generation);
                route.doubt();
                self.pause().await?;
            }
            Verdict::Wait => {
                route.doubt();
                self.pause().await?;
            }
            Verdict::Damaged(found) => return Err(element::damaged(self.id, key, &found)),
            Verdict::Refused => {
                return Err(LockError::unavailable(plain(error)).for_conversation(self.id));
            }
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), LockError> {
        let pause = self.pauses.next();
        if Instant::now() + pause >= self.limit {
            return Err(self.out_of_time());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn broken() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
}

/// Sends a step and waits for its reply. The library may wait for ever for what
/// it sent over a connection that broke just then.
async fn exchange(link: &Link, live: &mut Live, command: Cmd, asking: bool) -> RedisResult<Value> {
    tokio::select! {
        biased;
        // Not to be put off by the runtime: the order in which tickets are asked
        // for is that of first polls.
        answer = unconstrained(send(&mut live.connection, command, asking)) => answer,
        () = link.gone(live.generation) => Err(broken()),
    }
}

/// Begins at once, and goes on to the end also if this is dropped. `None` if the
/// runtime ends before.
async fn see_through<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut work = Box::pin(work);
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::spawn(work).await.ok(),
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    command: Cmd,
    asking: bool,
) -> RedisResult<Value> {
    if asking {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").ignore().add_command(command);
        let (reply,): (Value,) = pipeline.query_async(connection).await?;
        return Ok(reply);
    }
    connection
        .send_packed_command(&command)
        .await?
        .extract_error()
}
