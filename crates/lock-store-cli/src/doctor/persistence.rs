//! What a restart of a server costs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lock_store::diagnose::Reply;

use super::finding::Finding;
use super::server::{Info, may_not_ask};
use super::settings::text;
use super::together;
use super::tour::Node;

const REMEDY: &str = "set `appendonly yes` (CONFIG SET, and in redis.conf)";

pub(super) async fn check(nodes: &[Node<'_>]) -> Finding {
    let mut found = Vec::new();
    for node in nodes {
        let finding = match &node.info {
            Some(info) => {
                let (sync, save) = (
                    setting(node, "appendfsync").await,
                    setting(node, "save").await,
                );
                judge(info, sync.as_deref(), save.as_deref())
            }
            None => may_not_ask("INFO"),
        };
        found.push(finding);
    }
    together(nodes, found)
}

/// A setting of the server, if this user may ask.
pub(super) async fn setting(node: &Node<'_>, name: &str) -> Option<String> {
    let reply = node.session.ask(&["CONFIG", "GET", name]).await.ok()?;
    reply.field(name).and_then(Reply::text).map(str::to_owned)
}

fn judge(info: &Info, sync: Option<&str>, save: Option<&str>) -> Finding {
    let has_failed = |field| info.text(field).is_some_and(|status| status != "ok");
    if has_failed("rdb_last_bgsave_status") || has_failed("aof_last_write_status") {
        return Finding::failure(
            "the last save failed: Redis may refuse to write until one succeeds",
            "see Redis' log; is the disk full, and may it write into its `dir`?",
        );
    }
    if info.text("aof_enabled") == Some("1") {
        return Finding::ok(match sync {
            Some("always") => "appendonly, appendfsync always: a restart forgets nothing",
            Some("no") => "appendonly, appendfsync no: a crash of the machine forgets some seconds",
            _ => "appendonly: a crash forgets at most about a second",
        });
    }
    match save {
        Some("") => Finding::warning("no persistence: a restart forgets all locks", REMEDY),
        _ => {
            let saved = info.number("rdb_last_save_time").unwrap_or(0);
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let ago = now.saturating_sub(Duration::from_secs(saved));
            let changes = info.number("rdb_changes_since_last_save").unwrap_or(0);
            Finding::warning(
                format!(
                    "snapshots, if any: a restart forgets what changed since the last one ({} ago, \
                     {changes} changes)",
                    text(ago)
                ),
                REMEDY,
            )
        }
    }
}
