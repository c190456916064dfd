//! Listing the conversations that have a lock.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream;

use super::connect::within;
use super::link::Link;
use super::route::Links;
use super::steps::Steps;
use super::trouble::{Trouble, plain};
use crate::backend::Conversations;
use crate::error::LockError;
use crate::identity::ConversationId;

/// Keys that one `SCAN` looks at: a step of far below a millisecond.
const SCAN_COUNT: usize = 500;

/// Goes through the keys of each server in steps that block nobody.
pub(super) fn list(steps: Arc<Steps>) -> Conversations {
    struct Listing {
        steps: Arc<Steps>,
        servers: Vec<Links>,
        cursor: u64,
        seen: HashSet<ConversationId>,
        found: Vec<ConversationId>,
        is_over: bool,
    }
    let servers = steps.route.all_links();
    let listing = Listing {
        steps,
        servers,
        cursor: 0,
        seen: HashSet::new(),
        found: Vec::new(),
        is_over: false,
    };
    Box::pin(stream::unfold(listing, async |mut listing| {
        loop {
            if let Some(id) = listing.found.pop() {
                return Some((Ok(id), listing));
            }
            if listing.is_over {
                return None;
            }
            let links = listing.servers.last()?;
            match scan(&listing.steps, &links[0], listing.cursor).await {
                Ok((cursor, keys)) => {
                    for key in keys {
                        let id = listing.steps.keys.conversation(&key);
                        // A key may come twice.
                        if let Some(id) = id.filter(|id| listing.seen.insert(id.clone())) {
                            listing.found.push(id);
                        }
                    }
                    listing.cursor = cursor;
                    if cursor == 0 {
                        listing.servers.pop();
                    }
                }
                Err(error) => {
                    listing.is_over = true;
                    return Some((Err(error), listing));
                }
            }
        }
    }))
}

async fn scan(steps: &Steps, link: &Link, cursor: u64) -> Result<(u64, Vec<String>), LockError> {
    let timeout = steps.timeout();
    let Ok(mut live) = tokio::time::timeout(timeout, link.connected()).await else {
        let trouble = link.trouble().unwrap_or_else(Trouble::nobody_to_ask);
        return Err(LockError::unavailable(trouble.text));
    };
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(steps.keys.pattern())
        .arg("COUNT")
        .arg(SCAN_COUNT);
    let found = within(timeout, scan.query_async(&mut live.connection)).await;
    let (cursor, keys): (u64, Vec<Vec<u8>>) =
        found.map_err(|error| LockError::unavailable(plain(&error)))?;
    // What is not UTF-8 is not one of our keys.
    let keys = keys
        .into_iter()
        .filter_map(|key| String::from_utf8(key).ok());
    Ok((cursor, keys.collect()))
}
