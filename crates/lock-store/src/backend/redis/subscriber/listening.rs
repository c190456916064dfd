//! One listening connection.

use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Subscriber;
use crate::backend::redis::backoff::CONNECTING;
use crate::backend::redis::connect::{Node, within};
use crate::backend::redis::errors::{Decision, classify};
use crate::backend::redis::routing::Route;

/// A server that refuses a subscription is asked again, in case that somebody
/// changed its mind.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Listens at a server, again and again, until its task is aborted.
pub(super) async fn listen(subscriber: Arc<Subscriber>, node: Option<Node>) {
    let node = node.as_ref();
    let connector = &subscriber.steps.connector;
    let mut backoff = CONNECTING;
    let mut is_known_unsubscribed = false;
    loop {
        let (ended, ends) = mpsc::unbounded_channel();
        let to_pass_on = subscriber.clone();
        let on_push = move |push: PushInfo| -> Result<(), ()> {
            match push.kind {
                // A channel that moves away ends the connection: its notice
                // comes unasked, and would be taken for a reply.
                PushKind::Disconnection | PushKind::SUnsubscribe => {
                    let _ = ended.send(());
                }
                _ => to_pass_on.on_push(&push),
            }
            Ok(())
        };
        let opened = match node {
            Some(node) => connector.open_to(node, on_push).await,
            None => connector.open(on_push).await,
        };
        // Why it failed is said by those who have something to do.
        if let Ok(connection) = opened {
            backoff.reset();
            is_known_unsubscribed = false;
            keep_listening(&subscriber, node, connection, ends).await;
        }
        if !is_known_unsubscribed {
            subscriber.is_unsubscribed(node);
            is_known_unsubscribed = true;
        }
        subscriber.steps.route.doubt();
        tokio::time::sleep(backoff.next()).await;
    }
}

type Check = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Subscribes to what is wanted, and listens until the connection is of no
/// more use.
async fn keep_listening(
    subscriber: &Arc<Subscriber>,
    node: Option<&Node>,
    mut connection: MultiplexedConnection,
    mut ends: mpsc::UnboundedReceiver<()>,
) {
    let mut channels = HashSet::new();
    let mut check: Option<Check> = None;
    let mut checks = 0;
    let mut last_ping = Instant::now();
    let mut ask_again = None;
    let mut is_complete = false;
    loop {
        let wanted_more = subscriber.wanted_more.notified();
        tokio::pin!(wanted_more);
        wanted_more.as_mut().enable();

        if ask_again.is_none_or(|at| at <= Instant::now()) {
            match subscribe(subscriber, node, &mut connection, &mut channels).await {
                Ok(added) => {
                    ask_again = None;
                    if added || !is_complete {
                        is_complete = true;
                        subscriber.is_complete(node);
                    }
                }
                Err(error) => match classify(&error) {
                    Decision::Refused => {
                        subscriber.is_refused(&error.to_string());
                        subscriber.is_unsubscribed(node);
                        is_complete = false;
                        ask_again = Some(Instant::now() + ASK_AGAIN);
                    }
                    Decision::Moved(slot, node) => {
                        subscriber.steps.route.moved(slot, &node);
                        return;
                    }
                    _ => return,
                },
            }
        }
        let ping_every = subscriber.ping_every();
        let next_ping = last_ping + ping_every;
        let again = ask_again.unwrap_or(next_ping + 2 * ping_every);
        tokio::select! {
            _ = ends.recv() => return,
            () = &mut wanted_more => {}
            () = tokio::time::sleep_until(again) => {}
            () = tokio::time::sleep_until(next_ping), if check.is_none() => {
                checks += 1;
                let (subscriber, connection) = (subscriber.clone(), connection.clone());
                check = Some(Box::pin(is_alive(subscriber, connection, ping_every, checks)));
            }
            is_alive = outcome(&mut check) => {
                if !is_alive {
                    return;
                }
                check = None;
                last_ping = Instant::now();
            }
        }
    }
}

async fn outcome(check: &mut Option<Check>) -> bool {
    match check {
        Some(check) => check.await,
        None => pending().await,
    }
}

/// Whether the subscriber gets what is published.
///
/// A heartbeat is published over a command connection and expected here. So it
/// finds a command connection that is dead, which is replaced; a subscriber that
/// is; and two connections that lead to different masters: if a new subscription
/// does not get it either, the command connection is the one that is replaced.
async fn is_alive(
    subscriber: Arc<Subscriber>,
    mut connection: MultiplexedConnection,
    limit: Duration,
    number: u64,
) -> bool {
    if let Some((links, index, channel)) = subscriber.heartbeat_over(number)
        && let Some(mut live) = links[index].live()
    {
        let mut beats = subscriber.heartbeats.subscribe();
        let beat = subscriber.next_heartbeat();
        let publish = redis::cmd("PUBLISH")
            .arg(channel)
            .arg(format!("beat {beat}"))
            .to_owned();
        let ends = Instant::now() + limit;
        match links[index]
            .call(&mut live, &publish, false, ends, true)
            .await
        {
            Ok(Ok(_)) => {
                let got = tokio::time::timeout(limit, beats.wait_for(|got| *got >= beat)).await;
                if got.is_ok() {
                    subscriber.is_heard(true);
                } else if subscriber.is_heard(false) {
                    links[index].replace(live.generation);
                }
                return got.is_ok();
            }
            // It has been replaced. Whether the subscriber is alive is found out
            // by the next heartbeat.
            Err(_) => return true,
            // Without the right to publish.
            Ok(Err(_)) => {}
        }
    }
    let ping = redis::cmd("PING");
    let answered: RedisResult<Value> = within(limit, ping.query_async(&mut connection)).await;
    // A server that refuses a PING answers all the same.
    !answered.is_err_and(|error| matches!(classify(&error), Decision::Reconnect))
}

/// Subscribes to what is not yet subscribed to; says whether there was any.
async fn subscribe(
    subscriber: &Subscriber,
    node: Option<&Node>,
    connection: &mut MultiplexedConnection,
    channels: &mut HashSet<String>,
) -> Result<bool, RedisError> {
    let command = match subscriber.steps.route {
        Route::One(_) => "SUBSCRIBE",
        Route::Cluster(..) => "SSUBSCRIBE",
    };
    let mut added = false;
    for channel in subscriber.wanted(node) {
        if channels.contains(&channel) {
            continue;
        }
        let subscribe = redis::cmd(command).arg(&channel).to_owned();
        let confirmed = connection.send_packed_command(&subscribe);
        within(subscriber.steps.timeout(), confirmed)
            .await?
            .extract_error()?;
        subscriber.is_confirmed(node, &channel);
        channels.insert(channel);
        added = true;
    }
    Ok(added)
}
