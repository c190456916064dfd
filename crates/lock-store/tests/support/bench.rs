//! A conversation in Redis for steps one by one, with long times.

use std::time::{Duration, Instant};

use lock_store::{
    Backend, Claim, Claimed, ClientId, ConversationId, Finish, Finished, Issue, Issued, Owner,
    RedisLockStore, TicketName,
};
use redis_fixture::{FOR_EVER, Server};

use super::redis::at;

/// For steps one by one, with long times.
pub struct Bench {
    pub backend: RedisLockStore,
    pub id: ConversationId,
}

impl Bench {
    pub async fn new(server: &Server, id: &str) -> Self {
        let mut redis = at(&server.url());
        // Thousands of steps may stand in line for their replies.
        redis.socket_timeout = FOR_EVER;
        let backend = RedisLockStore::connect(&redis).await.unwrap();
        let id = ConversationId::new(id).unwrap();
        Self { backend, id }
    }

    pub fn owner(sequence: u64) -> Owner {
        Owner {
            client: ClientId::from_u64(1),
            sequence,
        }
    }

    pub fn ask(sequence: u64) -> Issue {
        Issue {
            owner: Some(Self::owner(sequence)),
            lifetime: Duration::from_secs(600),
            wait_timeout: Duration::from_secs(600),
            claim_window: Duration::from_secs(60),
            queue: true,
            repeated: false,
            least_token: None,
            asked: Instant::now(),
        }
    }

    pub async fn issue(&self, issue: Issue) -> Issued {
        self.backend
            .issue(&self.id, &issue)
            .resolve()
            .await
            .unwrap()
    }

    pub async fn claim(&self, sequence: u64, number: u64) -> Claimed {
        let claim = Claim {
            number: Some(number),
            ..Claim::new(
                Self::owner(sequence),
                Duration::from_secs(600),
                Duration::from_secs(60),
            )
        };
        self.backend
            .claim(&self.id, &claim)
            .resolve()
            .await
            .unwrap()
    }

    pub async fn finish(&self, ticket: TicketName, number: Option<u64>) -> Finished {
        let finish = Finish {
            number,
            ..Finish::new(ticket, Duration::from_secs(60))
        };
        self.backend
            .finish(&self.id, &finish)
            .resolve()
            .await
            .unwrap()
    }

    /// A head and so many waiters, the sequence of each also its number.
    pub async fn fill(&self, waiters: u64) {
        let mut issues = Vec::new();
        for sequence in 0..=waiters {
            // Tasks of one thread begin in order.
            let step = self.backend.issue(&self.id, &Self::ask(sequence));
            issues.push((sequence, tokio::spawn(step.resolve())));
        }
        for (sequence, issued) in issues {
            match issued.await.unwrap().unwrap() {
                Issued::Served { number, .. } | Issued::Waiting { number, .. } => {
                    assert_eq!(number, sequence);
                }
                Issued::Taken => panic!("not asked to queue"),
            }
        }
    }
}
