//! Messages posted to a server.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use common::{Place, assert_each_once_in_order};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The fencing tokens and the bodies that were received.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that answers as the text of a message wants, for as long as it is
/// not dropped.
struct Server {
    _runtime: Runtime,
    url: String,
    seen: Seen,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let seen = Seen::default();
        let app = Router::new()
            .route("/webhook", post(answer))
            .with_state(seen.clone());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            _runtime: runtime,
            url,
            seen,
        }
    }

    fn process(&self, place: &Place, options: &[&str]) -> common::Ended {
        place.process(&[&["--post", &self.url], options].concat())
    }
}

async fn answer(State(seen): State<Seen>, headers: HeaderMap, body: String) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let token = headers["x-fencing-token"].to_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    seen.lock().unwrap().push((token, body.clone()));
    match body["message"].as_str().unwrap() {
        "fail" => (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response(),
        "redirect" => Redirect::to("/elsewhere").into_response(),
        "sleep" => {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            "late".into_response()
        }
        "text" => "plain".into_response(),
        text => {
            let reply = json!([{"recipient_id": body["sender"], "text": text}]).to_string();
            ([(header::CONTENT_TYPE, "application/json")], reply).into_response()
        }
    }
}

#[test]
fn the_reply_is_the_response() {
    let (server, place) = (Server::start(), Place::new());
    let names = ["a", "b", "c"];
    place.messages((0..90).map(|i| (names[i % 3], format!("text {i}"))));
    let results = server.process(&place, &[]).results(0);
    assert_each_once_in_order(&results, 90);
    for result in &results {
        let expected = json!([{"recipient_id": result["sender"], "text": result["message"]}]);
        assert_eq!(result["response"], expected);
    }
    // The server saw the messages of each conversation in order, each with
    // its token.
    let seen = server.seen.lock().unwrap();
    for name in names {
        let of = |value: &Value| value["sender"] == name;
        let received = seen.iter().filter(|(_, body)| of(body));
        let received = received.map(|(token, body)| (token.clone(), body["message"].clone()));
        let told = results.iter().filter(|result| of(result));
        let told = told.map(|result| {
            (
                result["fencing_token"].to_string(),
                result["message"].clone(),
            )
        });
        assert!(received.eq(told));
    }
}

#[test]
fn a_reply_may_be_text() {
    let (server, place) = (Server::start(), Place::new());
    place.messages([("a", "text".to_owned())]);
    assert_eq!(
        server.process(&place, &[]).results(0)[0]["response"],
        "plain"
    );
}

#[test]
fn a_refusal_is_an_error() {
    let (server, place) = (Server::start(), Place::new());
    place.messages(["fail", "redirect", "well"].map(|text| ("a", text.to_owned())));
    let results = server.process(&place, &[]).results(1);
    let error = "the server answered 500 Internal Server Error: out of order";
    assert_eq!(results[0]["error"], error);
    assert_eq!(results[1]["error"], "the server answered 303 See Other");
    assert_eq!(results[2]["status"], "ok");
}

#[test]
fn a_slow_reply_is_an_error() {
    let (server, place) = (Server::start(), Place::new());
    place.messages(["sleep", "well"].map(|text| ("a", text.to_owned())));
    let results = server.process(&place, &["--timeout", "3"]).results(1);
    assert_eq!(
        results[0]["error"],
        "not done after 3 s; allow more with --timeout"
    );
    assert_eq!(results[1]["status"], "ok");
}

#[test]
fn nobody_there_is_an_error() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    // Bound and given back, so nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}/", listener.local_addr().unwrap());
    drop(listener);
    let ended = place.process(&["--post", &url]);
    let error = ended.results(1)[0]["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("no reply") && error.contains("refused"),
        "{error}"
    );
    assert!(!ended.stdout.contains("secret") && !ended.stderr.contains("secret"));
}

#[test]
fn a_wrong_url_is_found_at_the_start() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    place
        .process(&["--post", "ftp://x/y"])
        .says(2, &["http or https URL, not ftp"]);
    place
        .process(&["--post", "localhost"])
        .says(2, &["is not a URL such as"]);
    place
        .process(&["--post", "http://127.0.0.1:1/", "--", "cat"])
        .says(2, &["cannot be used with"]);
}
