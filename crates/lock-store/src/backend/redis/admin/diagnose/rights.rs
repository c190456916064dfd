//! Which rights a store needs, and which of them this user has.
//!
//! Each command is tried as the store uses it, on a key and a channel of its
//! own. `ACL DRYRUN` would ask the same without doing anything, but needs a
//! right that no store needs, and Redis 7.

use super::{Deployment, NoReply, Reply, Session};
use crate::backend::redis::keys::Tag;
use crate::config::{DeploymentMode, Layout};
use crate::identity::{ClientId, ConversationId};

/// A right that a store needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Right {
    /// As an ACL rule, such as `+evalsha` or `+script|load`.
    pub rule: &'static str,
    /// What for.
    pub purpose: Purpose,
    /// What is refused, if something is.
    pub refusal: Option<Refusal>,
}

/// What a right is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Nothing goes without it.
    Steps,
    /// Without it nobody is called, and waiters have to look.
    Calls,
    /// Only listing conversations needs it.
    Listing,
}

/// What a server refuses a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The command.
    Command,
    /// The key.
    Key,
    /// The channel.
    Channel,
}

/// A command that needs a right.
type Trial<'t> = (&'static str, Purpose, Vec<&'t str>);

impl Session<'_> {
    /// Tries every right that a store needs, on a key and a channel that
    /// nobody else uses; leaves nothing behind. Ends the session, as it
    /// subscribes.
    ///
    /// # Errors
    ///
    /// When there is no reply.
    pub async fn rights(self) -> Result<Vec<Right>, NoReply> {
        let deployment = self.deployment;
        let client = ClientId::random();
        let name = format!("check-{client}");
        let id = ConversationId::new(name).map_err(|error| NoReply::Other(error.to_string()))?;
        let key = deployment.keys.queue(&id);
        let channel = deployment.keys.channel_for(&id, client);
        let db = deployment.db().to_string();
        let mut rights = Vec::new();
        for (rule, purpose, words) in deployment.trials(&key, &channel, &db) {
            // Nothing is put there that could not be taken away again.
            let puts = matches!(rule, "+rpush" | "+set");
            if puts && !rights.iter().all(is_granted_or_no_del) {
                continue;
            }
            let refusal = refusal(&self.ask(&words).await?);
            rights.push(Right {
                rule,
                purpose,
                refusal,
            });
            if puts {
                self.ask(&["DEL", &key]).await?;
            }
        }
        Ok(rights)
    }
}

fn is_granted_or_no_del(right: &Right) -> bool {
    right.rule != "+del" || right.refusal.is_none()
}

impl Deployment {
    /// The commands that a store uses, as it uses them; subscribing comes last,
    /// as nothing else is allowed after it.
    fn trials<'t>(&self, key: &'t str, channel: &'t str, db: &'t str) -> Vec<Trial<'t>> {
        use Purpose::{Calls, Listing, Steps};
        const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";
        let mut trials: Vec<Trial<'t>> = vec![
            ("+ping", Steps, vec!["PING"]),
            ("+time", Steps, vec!["TIME"]),
            ("+script|load", Steps, vec!["SCRIPT", "LOAD", "return 1"]),
            ("+eval", Steps, vec!["EVAL", "return 1", "1", key]),
            ("+evalsha", Steps, vec!["EVALSHA", NO_SCRIPT, "1", key]),
            ("+del", Steps, vec!["DEL", key]),
            ("+pexpire", Steps, vec!["PEXPIRE", key, "1"]),
        ];
        let list = vec![
            ("+pttl", Steps, vec!["PTTL", key]),
            ("+llen", Steps, vec!["LLEN", key]),
            ("+lindex", Steps, vec!["LINDEX", key, "0"]),
            ("+lrange", Steps, vec!["LRANGE", key, "0", "1"]),
            ("+lset", Steps, vec!["LSET", key, "0", "a"]),
            ("+lrem", Steps, vec!["LREM", key, "1", "a"]),
            ("+ltrim", Steps, vec!["LTRIM", key, "0", "-1"]),
            ("+lpop", Steps, vec!["LPOP", key]),
            ("+rpop", Steps, vec!["RPOP", key]),
            ("+rpush", Steps, vec!["RPUSH", key, "a"]),
        ];
        let text = vec![
            ("+get", Steps, vec!["GET", key]),
            ("+set", Steps, vec!["SET", key, "a", "PX", "1000"]),
        ];
        trials.extend(match self.layout {
            Layout::Native => list,
            Layout::Rasa => text,
        });
        trials.push(("+scan", Listing, vec!["SCAN", "0", "COUNT", "1"]));
        match self.mode() {
            DeploymentMode::Standard => {}
            DeploymentMode::Sentinel => trials.push(("+role", Steps, vec!["ROLE"])),
            DeploymentMode::Cluster => {
                trials.push(("+cluster|slots", Steps, vec!["CLUSTER", "SLOTS"]));
                trials.push(("+asking", Steps, vec!["ASKING"]));
            }
        }
        if self.mode() != DeploymentMode::Cluster {
            trials.push(("+select", Steps, vec!["SELECT", db]));
        }
        if self.replicas > 0 {
            trials.push(("+wait", Steps, vec!["WAIT", "0", "1"]));
        }
        if self.mode() == DeploymentMode::Cluster {
            trials.push(("+spublish", Steps, vec!["SPUBLISH", channel, ""]));
            trials.push(("+ssubscribe", Calls, vec!["SSUBSCRIBE", channel]));
        } else {
            trials.push(("+publish", Steps, vec!["PUBLISH", channel, ""]));
            trials.push(("+subscribe", Calls, vec!["SUBSCRIBE", channel]));
        }
        trials
    }

    /// The slot of a cluster in which the key of this conversation is.
    pub fn slot_of(id: &ConversationId) -> u16 {
        Tag::of(id).slot()
    }
}

/// What is refused, whichever server says so: from 6.2 to 8, and Valkey, the
/// texts differ.
fn refusal(reply: &Reply) -> Option<Refusal> {
    let text = reply.error().filter(|text| text.starts_with("NOPERM"))?;
    // A user's name may have any words in it.
    let text = text
        .split_once(" has no permissions")
        .map_or(text, |(_, of)| of);
    Some(if text.contains("channel") {
        Refusal::Channel
    } else if text.contains("key") && !text.contains("to run the") {
        Refusal::Key
    } else {
        Refusal::Command
    })
}

#[cfg(test)]
mod tests {
    use redis_fixture::documented_rights;

    use super::*;
    use crate::config::RedisConfig;

    fn deployment(mode: DeploymentMode) -> Deployment {
        Deployment::of(&RedisConfig {
            deployment_mode: mode,
            replicas: 1,
            ..RedisConfig::default()
        })
        .unwrap()
    }

    /// What docs/REDIS.md says that a user needs, this tries, and no more.
    #[test]
    fn the_rights_are_those_of_the_documentation() {
        let page = include_str!("../../../../../../../docs/REDIS.md");
        let (_, documented) = documented_rights("bot").split_once("-@all ").unwrap();
        for (mode, more, without) in [
            (DeploymentMode::Standard, &["+wait"][..], &[][..]),
            (DeploymentMode::Sentinel, &["+wait", "+role"], &[]),
            (
                DeploymentMode::Cluster,
                &[
                    "+wait",
                    "+cluster|slots",
                    "+asking",
                    "+spublish",
                    "+ssubscribe",
                ],
                &["+select", "+publish", "+subscribe"],
            ),
        ] {
            for rule in more {
                assert!(page.contains(&format!("`{rule}")) || page.contains(&format!(" {rule}")));
            }
            let mut expected: Vec<_> = documented.split(' ').chain(more.iter().copied()).collect();
            // Those two no server ever refuses.
            expected.retain(|rule| !["+hello", "+auth"].contains(rule));
            expected.retain(|rule| !without.contains(rule));
            expected.sort_unstable();
            let deployment = deployment(mode);
            let trials = deployment.trials("key", "channel", "0");
            let mut tried: Vec<_> = trials.iter().map(|(rule, ..)| *rule).collect();
            tried.sort_unstable();
            assert_eq!(tried, expected, "{mode:?}");
        }
    }

    #[test]
    fn so_are_those_in_rasas_layout() {
        let (_, documented) = documented_rights("rasa").split_once("-@all ").unwrap();
        let mut expected: Vec<_> = documented.split(' ').collect();
        expected.retain(|rule| !["+hello", "+auth"].contains(rule));
        expected.sort_unstable();
        let deployment = Deployment::of(&RedisConfig {
            layout: Layout::Rasa,
            ..RedisConfig::default()
        });
        let deployment = deployment.unwrap();
        let trials = deployment.trials("key", "channel", "0");
        let mut tried: Vec<_> = trials.iter().map(|(rule, ..)| *rule).collect();
        tried.sort_unstable();
        assert_eq!(tried, expected);
    }

    #[test]
    fn refusals_of_all_versions_are_understood() {
        for (text, expected) in [
            (
                "NOPERM this user has no permissions to run the 'lset' command or its subcommand",
                Refusal::Command,
            ),
            (
                "NOPERM User key has no permissions to run the 'lset' command",
                Refusal::Command,
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                Refusal::Key,
            ),
            ("NOPERM No permissions to access a key", Refusal::Key),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                Refusal::Channel,
            ),
            (
                "NOPERM No permissions to access a channel",
                Refusal::Channel,
            ),
            (
                "NOPERM User channel has no permissions to access the 'a' key",
                Refusal::Key,
            ),
        ] {
            assert_eq!(
                refusal(&Reply::Error(text.into())),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(refusal(&Reply::Error("ERR no such key".into())), None);
        assert_eq!(refusal(&Reply::Nil), None);
    }
}
