//! What is wrong with TLS.

use redis_fixture::{Certificates, ClientCertificate, Server};

use crate::support::{doctor, healthy, line, redis};

fn server(client: ClientCertificate) -> (Server, Certificates) {
    let certificates = Certificates::new();
    let server = healthy().tls(&certificates, client).start();
    (server, certificates)
}

fn trusting(certificates: &Certificates) -> String {
    line("ssl_ca_certs", certificates.authority())
}

#[test]
fn all_is_well() {
    let (server, certificates) = server(ClientCertificate::NotAsked);
    let found = doctor(&redis(&server.tls_url(), &trusting(&certificates)));
    found.is_well();
    found.says("tls", "ok", &["localhost", "127.0.0.1", "trusted"]);
    found.says("certificate", "ok", &["valid for"]);
}

#[test]
fn unknown_authority() {
    let (server, certificates) = server(ClientCertificate::NotAsked);
    let other = line("ssl_ca_certs", certificates.other_authority());
    let found = doctor(&redis(&server.tls_url(), &other));
    found.fails(
        "tls",
        &["not known", "redis-fixture", "lock_store.ssl_ca_certs"],
    );
    found.skips(&["answer", "login", "hand_off"], "tls");
    // The system's authorities do not know it, either.
    let found = doctor(&redis(&server.tls_url(), ""));
    found.fails("tls", &["not known", "lock_store.ssl_ca_certs"]);
}

#[test]
fn certificate_for_another_name() {
    let certificates = Certificates::new();
    let server = healthy()
        .tls(&certificates, ClientCertificate::NotAsked)
        .config("bind", "127.0.0.1 127.0.0.2")
        .start();
    let url = format!("rediss://127.0.0.2:{}/0", server.tls_port());
    let found = doctor(&redis(&url, &trusting(&certificates)));
    found.fails(
        "tls",
        &["not for 127.0.0.2", "it is for localhost, 127.0.0.1"],
    );
}

#[test]
fn expired_certificate() {
    let certificates = Certificates::new();
    let server = healthy()
        .tls(&certificates, ClientCertificate::NotAsked)
        .config("tls-cert-file", certificates.expired().to_str().unwrap())
        .config("tls-key-file", certificates.expired_key().to_str().unwrap())
        .start();
    let found = doctor(&redis(&server.tls_url(), &trusting(&certificates)));
    found.fails("certificate", &["expired 24 h ago", "renew"]);
    found.skips(&["answer", "login", "hand_off"], "certificate");
}

#[test]
fn a_certificate_that_ends_soon() {
    let certificates = Certificates::new();
    let server = healthy()
        .tls(&certificates, ClientCertificate::Required)
        .config("tls-cert-file", certificates.expiring().to_str().unwrap())
        .config(
            "tls-key-file",
            certificates.expiring_key().to_str().unwrap(),
        )
        .start();
    let client = [
        trusting(&certificates),
        line("ssl_certfile", certificates.client()),
        line("ssl_keyfile", certificates.client_key()),
    ]
    .concat();
    let found = doctor(&redis(&server.tls_url(), &client));
    found.warns("certificate", &["expires in 10 days", "renew"]);
}

#[test]
fn certificates_of_this_client() {
    let (server, certificates) = server(ClientCertificate::Required);
    let url = server.tls_url();
    let with = |certificate, key| {
        let lines = [
            trusting(&certificates),
            line("ssl_certfile", certificate),
            line("ssl_keyfile", key),
        ];
        doctor(&redis(&url, &lines.concat()))
    };
    let found = doctor(&redis(&url, &trusting(&certificates)));
    found.fails(
        "client_certificate",
        &["wants a certificate", "lock_store.ssl_certfile"],
    );
    let found = with(certificates.stranger(), certificates.stranger_key());
    found.fails(
        "client_certificate",
        &["does not accept", "lock_store.ssl_certfile"],
    );
    let found = with(
        certificates.expiring_client(),
        certificates.expiring_client_key(),
    );
    found.warns("client_certificate", &["expires in 10 days"]);
    let found = with(certificates.client(), certificates.client_key());
    found.is_well();
    found.says("client_certificate", "ok", &["valid for"]);
}

#[test]
fn plain_text_to_tls() {
    for client in [ClientCertificate::NotAsked, ClientCertificate::Required] {
        let (server, _certificates) = server(client);
        let url = format!("redis://127.0.0.1:{}/0", server.tls_port());
        let found = doctor(&redis(&url, ""));
        found.fails("tls", &["speaks TLS", "lock_store.use_ssl: true"]);
        found.skips(&["answer", "login"], "tls");
    }
}

#[test]
fn tls_to_plain_text() {
    let (server, certificates) = server(ClientCertificate::NotAsked);
    let url = format!("rediss://127.0.0.1:{}/0", server.port());
    let found = doctor(&redis(&url, &trusting(&certificates)));
    found.fails("tls", &["does not speak TLS", "lock_store.use_ssl: false"]);
}
