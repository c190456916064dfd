//! What is wrong at the start is named: certificates, and TLS on one side only.

#![allow(clippy::unwrap_used)]

mod support;

use lock_store::RedisConfig;
use redis_fixture::{Certificates, ClientCertificate, Server};

use support::redis::at;
use support::start::{is_fine, is_lasting};

fn server(client: ClientCertificate) -> (Server, Certificates) {
    let certificates = Certificates::new();
    let server = Server::builder().tls(&certificates, client).start();
    (server, certificates)
}

#[tokio::test]
async fn unknown_authority() {
    let (server, certificates) = server(ClientCertificate::NotAsked);
    let words = ["authority", "not known", "lock_store.ssl_ca_certs"];
    is_lasting(&at(&server.tls_url()), &words).await;
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.other_authority()),
        ..at(&server.tls_url())
    };
    is_lasting(&redis, &words).await;
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.authority()),
        ..at(&server.tls_url())
    };
    is_fine(&redis).await;
}

#[tokio::test]
async fn certificate_for_another_name() {
    let certificates = Certificates::new();
    let server = Server::builder()
        .tls(&certificates, ClientCertificate::NotAsked)
        .config("bind", "127.0.0.1 127.0.0.2")
        .start();
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.authority()),
        ..at(&format!("rediss://127.0.0.2:{}/0", server.tls_port()))
    };
    is_lasting(&redis, &["certificate for another name", "lock_store.url"]).await;
}

#[tokio::test]
async fn client_certificate_is_missing() {
    let (server, certificates) = server(ClientCertificate::Required);
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.authority()),
        ..at(&server.tls_url())
    };
    is_lasting(
        &redis,
        &[
            "wants a certificate of this client",
            "lock_store.ssl_certfile",
        ],
    )
    .await;
}

#[tokio::test]
async fn client_certificate_of_a_stranger() {
    let (server, certificates) = server(ClientCertificate::Required);
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.authority()),
        ssl_certfile: Some(certificates.stranger()),
        ssl_keyfile: Some(certificates.stranger_key()),
        ..at(&server.tls_url())
    };
    is_lasting(
        &redis,
        &[
            "does not accept the certificate of this client",
            "lock_store.ssl_certfile",
        ],
    )
    .await;
}

#[tokio::test]
async fn plain_text_to_a_tls_port() {
    for client in [ClientCertificate::NotAsked, ClientCertificate::Required] {
        let (server, _certificates) = server(client);
        let url = format!("redis://127.0.0.1:{}/0", server.tls_port());
        is_lasting(&at(&url), &["speaks TLS", "lock_store.use_ssl: true"]).await;
    }
}

#[tokio::test]
async fn tls_to_a_plain_port() {
    let (server, certificates) = server(ClientCertificate::NotAsked);
    let redis = RedisConfig {
        ssl_ca_certs: Some(certificates.authority()),
        ..at(&format!("rediss://127.0.0.1:{}/0", server.port()))
    };
    is_lasting(&redis, &["does not speak TLS", "lock_store.use_ssl: false"]).await;
}

#[tokio::test]
async fn files_that_are_not_there() {
    let certificates = Certificates::new();
    let missing = Some(certificates.authority().with_file_name("nowhere.pem"));
    let tls = || at("rediss://127.0.0.1:1/0");
    let redis = RedisConfig {
        ssl_ca_certs: missing.clone(),
        ..tls()
    };
    is_lasting(&redis, &["lock_store.ssl_ca_certs", "nowhere.pem"]).await;
    let redis = RedisConfig {
        ssl_certfile: missing.clone(),
        ..tls()
    };
    is_lasting(&redis, &["lock_store.ssl_certfile", "nowhere.pem"]).await;
    let redis = RedisConfig {
        ssl_certfile: Some(certificates.client()),
        ssl_keyfile: missing,
        ..tls()
    };
    is_lasting(&redis, &["lock_store.ssl_keyfile", "nowhere.pem"]).await;
}
