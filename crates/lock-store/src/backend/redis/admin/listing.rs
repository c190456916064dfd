//! Going through all locks, in steps that block nobody.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use redis::{RedisError, RedisResult, Value};

use super::inspect::{LockSummary, Survey};
use crate::backend::Conversations;
use crate::backend::redis::connect::within;
use crate::backend::redis::connection::{Connection, Live};
use crate::backend::redis::element::{self, damaged};
use crate::backend::redis::errors::{ConnectError, Decision, classify, is_unknown_script, plain};
use crate::backend::redis::routing::Links;
use crate::backend::redis::scripts::{Action, Times};
use crate::backend::redis::sender::Steps;
use crate::error::LockError;
use crate::identity::ConversationId;
use crate::time::Timestamp;

/// Keys that one `SCAN` looks at: a step of far below a millisecond.
const SCAN_COUNT: usize = 500;

/// The conversations that one step found, and where.
type Pages = Pin<Box<dyn Stream<Item = Result<Page, LockError>> + Send>>;

struct Page {
    links: Links,
    ids: Vec<ConversationId>,
}

/// The conversations that have a lock.
pub(in super::super) fn list(steps: Arc<Steps>) -> Conversations {
    let items = pages(steps).flat_map(|page| {
        stream::iter(match page {
            Ok(page) => page.ids.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    });
    Box::pin(items)
}

/// What every lock looks like from afar.
pub(super) fn survey(steps: Arc<Steps>) -> Survey {
    let items = pages(steps.clone()).then(move |page| {
        let steps = steps.clone();
        async move {
            let seen = match page {
                Ok(page) => summaries(&steps, &page).await,
                Err(error) => Err(error),
            };
            seen.unwrap_or_else(|error| vec![Err(error)])
        }
    });
    Box::pin(items.flat_map(stream::iter))
}

/// Goes through the keys of each server.
fn pages(steps: Arc<Steps>) -> Pages {
    struct Listing {
        steps: Arc<Steps>,
        servers: Vec<Links>,
        cursor: u64,
        seen: HashSet<ConversationId>,
    }
    let servers = steps.route.all_links();
    let listing = Listing {
        steps,
        servers,
        cursor: 0,
        seen: HashSet::new(),
    };
    Box::pin(stream::unfold(listing, async |mut listing| {
        let links = listing.servers.last()?.clone();
        match scan(&listing.steps, &links[0], listing.cursor).await {
            Ok((cursor, keys)) => {
                let ids = keys.iter().filter_map(|key| {
                    let id = listing.steps.keys.conversation(key)?;
                    // A key may come twice.
                    listing.seen.insert(id.clone()).then_some(id)
                });
                let ids = ids.collect();
                listing.cursor = cursor;
                if cursor == 0 {
                    listing.servers.pop();
                }
                Some((Ok(Page { links, ids }), listing))
            }
            Err(error) => {
                listing.servers.clear();
                Some((Err(error), listing))
            }
        }
    }))
}

async fn scan(
    steps: &Steps,
    link: &Connection,
    cursor: u64,
) -> Result<(u64, Vec<String>), LockError> {
    let mut live = connected(steps, link).await?;
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(steps.keys.pattern())
        .arg("COUNT")
        .arg(SCAN_COUNT);
    let found = within(steps.timeout(), scan.query_async(&mut live.connection)).await;
    let (cursor, keys): (u64, Vec<Vec<u8>>) =
        found.map_err(|error| LockError::unavailable(plain(&error)))?;
    // What is not UTF-8 is not one of our keys.
    let keys = keys
        .into_iter()
        .filter_map(|key| String::from_utf8(key).ok());
    Ok((cursor, keys.collect()))
}

type Summaries = Vec<Result<LockSummary, LockError>>;

/// One round trip for a page.
async fn summaries(steps: &Steps, page: &Page) -> Result<Summaries, LockError> {
    if page.ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut live = connected(steps, &page.links[0]).await?;
    let unavailable = |error: RedisError| LockError::unavailable(plain(&error));
    let answers = ask_for_all(steps, &page.ids, &mut live, false);
    let mut answers = within(steps.timeout(), answers)
        .await
        .map_err(unavailable)?;
    if answers.iter().any(is_unknown_script) {
        let again = ask_for_all(steps, &page.ids, &mut live, true);
        answers = within(steps.timeout(), again).await.map_err(unavailable)?;
    }
    let mut answers = answers.into_iter();
    let now = answers.next().as_ref().and_then(server_time);
    let now = now.ok_or_else(|| LockError::unavailable("Redis did not say what time it is"))?;
    let mut seen = Vec::with_capacity(page.ids.len());
    for id in &page.ids {
        let Some(first) = answers.next() else {
            break;
        };
        let length = if steps.scripts.are_lists() {
            answers.next()
        } else {
            None
        };
        // One that went meanwhile is none.
        seen.extend(summary(steps, id, first, length.as_ref(), now).transpose());
    }
    Ok(seen)
}

/// What time it is, and for each the head, the next, and the length; or the
/// whole queue where that is no list.
async fn ask_for_all(
    steps: &Steps,
    ids: &[ConversationId],
    live: &mut Live,
    by_text: bool,
) -> RedisResult<Vec<Value>> {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors().cmd("TIME");
    for id in ids {
        if steps.scripts.are_lists() {
            let key = steps.keys.queue(id);
            pipeline.cmd("LRANGE").arg(&key).arg(0).arg(1);
            pipeline.cmd("LLEN").arg(key);
        } else {
            let get = steps
                .scripts
                .command(&Action::Get, id, by_text, &Times::NONE);
            pipeline.add_command(get);
        }
    }
    pipeline.query_async(&mut live.connection).await
}

fn summary(
    steps: &Steps,
    id: &ConversationId,
    first: Value,
    length: Option<&Value>,
    now: Timestamp,
) -> Result<Option<LockSummary>, LockError> {
    let key = steps.keys.queue(id);
    let first = steps.scripts.answer(&Action::Get, id, first);
    let elements: Vec<Vec<u8>> = match first {
        Value::ServerError(error) => {
            let error = RedisError::from(error);
            return Err(match classify(&error) {
                Decision::Damaged(found) => damaged(id, &key, &found),
                _ => LockError::unavailable(plain(&error)).for_conversation(id),
            });
        }
        first => redis::from_redis_value(first)
            .map_err(|error| LockError::unavailable(error).for_conversation(id))?,
    };
    let length = match length {
        Some(Value::Int(length)) => u64::try_from(*length).unwrap_or(0),
        _ => elements.len() as u64,
    };
    let mut tickets = element::read_queue(id, &key, &elements)?.into_tickets();
    let Some(serving) = tickets.pop_front() else {
        return Ok(None);
    };
    Ok(Some(LockSummary {
        conversation_id: id.clone(),
        serving,
        next: tickets.pop_front(),
        waiting: length.saturating_sub(1),
        now,
    }))
}

/// The connection of a link, as soon as there is one.
pub(super) async fn connected(steps: &Steps, link: &Connection) -> Result<Live, LockError> {
    match tokio::time::timeout(steps.timeout(), link.connected()).await {
        Ok(live) => Ok(live),
        Err(_) => {
            let connect_error = link
                .connect_error()
                .unwrap_or_else(ConnectError::nobody_to_ask);
            Err(LockError::unavailable(connect_error.text))
        }
    }
}

/// What `TIME` says.
pub(super) fn server_time(answer: &Value) -> Option<Timestamp> {
    let Value::Array(fields) = answer else {
        return None;
    };
    let mut fields = fields.iter().map(|field| match field {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        _ => None,
    });
    let (seconds, micros) = (fields.next()??, fields.next()??);
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}
