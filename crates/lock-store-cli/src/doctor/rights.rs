//! Whether this user may do what the store does.

use lock_store::diagnose::{Deployment, Purpose, Refusal, Right};

use super::finding::Finding;
use super::together;
use super::tour::Node;
use super::way::silence;

pub(super) async fn check(deployment: &Deployment, nodes: &[Node<'_>]) -> Finding {
    let patterns = Patterns::of(deployment);
    let mut found = Vec::new();
    for node in nodes {
        let finding = match on(deployment, node).await {
            Ok(rights) => judge(&rights, &patterns),
            Err(finding) => finding,
        };
        found.push(finding);
    }
    together(nodes, found)
}

/// What the user must be allowed to touch.
struct Patterns {
    keys: String,
    channels: String,
}

impl Patterns {
    fn of(deployment: &Deployment) -> Self {
        let keys = deployment.key_pattern();
        match keys.strip_suffix("tickets:*") {
            Some(prefix) => Self {
                keys: format!("{prefix}*"),
                channels: format!("{prefix}*"),
            },
            // As Rasa calls its keys.
            None => Self {
                keys,
                channels: deployment.channel_pattern(),
            },
        }
    }
}

/// On a connection of its own, as trying to subscribe ends it.
async fn on(deployment: &Deployment, node: &Node<'_>) -> Result<Vec<Right>, Finding> {
    let trouble = |error| silence(&node.address, &error, deployment.timeout());
    let session = deployment.open(&node.address).await.map_err(trouble)?;
    session.log_in().await.map_err(trouble)?;
    session.rights().await.map_err(trouble)
}

fn judge(rights: &[Right], patterns: &Patterns) -> Finding {
    let Patterns {
        keys: of_keys,
        channels: of_channels,
    } = patterns;
    let refused = |of: Refusal| {
        let rights = rights.iter().filter(move |right| right.refusal == Some(of));
        rights.collect::<Vec<_>>()
    };
    let (commands, keys, channels) = (
        refused(Refusal::Command),
        refused(Refusal::Key),
        refused(Refusal::Channel),
    );
    let mut missing: Vec<String> = commands.iter().map(|right| right.rule.to_owned()).collect();
    if !keys.is_empty() {
        missing.push(format!("~{of_keys}"));
    }
    if !channels.is_empty() {
        missing.push(format!("&{of_channels}"));
    }
    if missing.is_empty() {
        let count = rights.len();
        return Finding::ok(format!(
            "this user may use all {count} commands, keys {of_keys} and channels {of_channels}"
        ));
    }
    let missing = missing.join(" ");
    let mut all = commands.iter().chain(&keys).chain(&channels);
    let message = if all.clone().any(|right| right.purpose == Purpose::Steps) {
        let message = format!("this user lacks rights that the store needs: {missing}");
        return Finding::failure(message, remedy(&missing));
    } else if all.any(|right| right.purpose == Purpose::Calls) {
        format!("this user lacks {missing}: nobody is called, and waiters look every wait_time")
    } else {
        format!("this user lacks {missing}: conversations cannot be listed")
    };
    Finding::warning(message, remedy(&missing))
}

fn remedy(missing: &str) -> String {
    format!("ACL SETUSER <user> {missing} (docs/REDIS.md has all rights)")
}
