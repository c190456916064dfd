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

use super::Wakeups;
use crate::backend::redis::connect::{Node, within};
use crate::backend::redis::pauses::CONNECTING;
use crate::backend::redis::route::Route;
use crate::backend::redis::trouble::{Verdict, judge};

/// A server that refuses a subscription is asked again, in case that somebody
/// changed its mind.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Listens at a server, again and again, until its task is aborted.
pub(super) async fn listen(wakeups: Arc<Wakeups>, node: Option<Node>) {
    let node = node.as_ref();
    let connector = &wakeups.steps.connector;
    let mut pauses = CONNECTING;
    let mut is_known_deaf = false;
    loop {
        let (ended, ends) = mpsc::unbounded_channel();
        let to_pass_on = wakeups.clone();
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
            pauses.begin_again();
            is_known_deaf = false;
            hear(&wakeups, node, connection, ends).await;
        }
        if !is_known_deaf {
            wakeups.is_deaf(node);
            is_known_deaf = true;
        }
        wakeups.steps.route.doubt();
        tokio::time::sleep(pauses.next()).await;
    }
}

type Ping = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>;

/// Subscribes to what is wanted, and listens until the connection is of no
/// more use.
async fn hear(
    wakeups: &Wakeups,
    node: Option<&Node>,
    mut connection: MultiplexedConnection,
    mut ends: mpsc::UnboundedReceiver<()>,
) {
    let mut channels = HashSet::new();
    let mut ping: Option<Ping> = None;
    let mut last_ping = Instant::now();
    let mut ask_again = None;
    let mut hears = false;
    loop {
        let wanted_more = wakeups.wanted_more.notified();
        tokio::pin!(wanted_more);
        wanted_more.as_mut().enable();

        if ask_again.is_none_or(|at| at <= Instant::now()) {
            match subscribe(wakeups, node, &mut connection, &mut channels).await {
                Ok(added) => {
                    ask_again = None;
                    if added || !hears {
                        hears = true;
                        wakeups.hears(node);
                    }
                }
                Err(error) => match judge(&error) {
                    Verdict::Refused => {
                        wakeups.is_refused(&error.to_string());
                        wakeups.is_deaf(node);
                        hears = false;
                        ask_again = Some(Instant::now() + ASK_AGAIN);
                    }
                    Verdict::Moved(slot, node) => {
                        wakeups.steps.route.moved(slot, &node);
                        return;
                    }
                    _ => return,
                },
            }
        }
        let ping_every = wakeups.ping_every();
        let next_ping = last_ping + ping_every;
        let again = ask_again.unwrap_or(next_ping + 2 * ping_every);
        tokio::select! {
            _ = ends.recv() => return,
            () = &mut wanted_more => {}
            () = tokio::time::sleep_until(again) => {}
            () = tokio::time::sleep_until(next_ping), if ping.is_none() => {
                let mut connection = connection.clone();
                ping = Some(Box::pin(async move {
                    let asked = redis::cmd("PING");
                    within(ping_every, asked.query_async(&mut connection)).await
                }));
            }
            answered = answer(&mut ping) => {
                if answered.is_err() {
                    return;
                }
                ping = None;
                last_ping = Instant::now();
            }
        }
    }
}

async fn answer(ping: &mut Option<Ping>) -> RedisResult<Value> {
    match ping {
        Some(ping) => ping.await,
        None => pending().await,
    }
}

/// Subscribes to what is not yet subscribed to; says whether there was any.
async fn subscribe(
    wakeups: &Wakeups,
    node: Option<&Node>,
    connection: &mut MultiplexedConnection,
    channels: &mut HashSet<String>,
) -> Result<bool, RedisError> {
    let command = match wakeups.steps.route {
        Route::One(_) => "SUBSCRIBE",
        Route::Cluster(..) => "SSUBSCRIBE",
    };
    let mut added = false;
    for channel in wakeups.wanted(node) {
        if channels.contains(&channel) {
            continue;
        }
        let subscribe = redis::cmd(command).arg(&channel).to_owned();
        let confirmed = connection.send_packed_command(&subscribe);
        within(wakeups.steps.timeout(), confirmed)
            .await?
            .extract_error()?;
        wakeups.is_confirmed(node, &channel);
        channels.insert(channel);
        added = true;
    }
    Ok(added)
}
