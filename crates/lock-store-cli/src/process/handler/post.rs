//! A server that each message is posted to.

use std::error::Error;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use lock_store::LockGuard;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::{LONGEST_RESPONSE, Limit, Response, json_or_text};
use crate::process::message::Message;

/// How much of the body of a refusal is shown, in characters.
const SHOWN: usize = 1000;

/// The server, and the connections to it.
#[derive(Debug)]
pub(crate) struct Post {
    client: Client,
    url: Url,
    timeout: Duration,
}

impl Post {
    pub(crate) fn to(url: &str, timeout: Duration) -> anyhow::Result<Self> {
        let wrong = || format!("--post {url:?} is not a URL such as http://localhost:5005/webhook");
        let url = Url::parse(url).with_context(wrong)?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("--post must be an http or https URL, not {}", url.scheme());
        }
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| anyhow!("there is a provider of cryptography already"))?;
        let client = Client::builder()
            .user_agent(concat!("lock-store/", env!("CARGO_PKG_VERSION")))
            // A redirected POST becomes a GET, and the message would be lost.
            .redirect(Policy::none())
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Self {
            client,
            url,
            timeout,
        })
    }

    /// Posts a message.
    pub(super) async fn send(&self, message: &Message, guard: &LockGuard) -> Response {
        let limit = Limit {
            timeout: Some(self.timeout),
            guard,
        };
        tokio::select! {
            biased;
            response = self.ask(message, guard) => response,
            why = limit.exceeded() => Err(why),
        }
    }

    async fn ask(&self, message: &Message, guard: &LockGuard) -> Response {
        let mut reply = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("X-Fencing-Token", guard.fencing_token().get())
            .body(message.line.to_string())
            .send()
            .await
            .map_err(no_reply)?;
        let mut body = Vec::new();
        while let Some(part) = reply.chunk().await.map_err(no_reply)? {
            if body.len() + part.len() > LONGEST_RESPONSE {
                return Err(format!("the reply is longer than {LONGEST_RESPONSE} bytes"));
            }
            body.extend_from_slice(&part);
        }
        let status = reply.status();
        if status.is_success() {
            return Ok(json_or_text(&body));
        }
        let body = String::from_utf8_lossy(&body);
        let start: String = body.trim().chars().take(SHOWN).collect();
        Err(if start.is_empty() {
            format!("the server answered {status}")
        } else {
            format!("the server answered {status}: {start}")
        })
    }
}

/// What went wrong, down to its cause. Without the URL, which may hold a
/// password.
fn no_reply(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = format!("no reply: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused() {
        let error = |url| format!("{:#}", Post::to(url, Duration::MAX).unwrap_err());
        assert!(error("localhost/x").contains("is not a URL such as http://"));
        assert!(error("ftp://localhost/x").contains("http or https URL, not ftp"));
    }
}
