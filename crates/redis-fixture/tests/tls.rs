//! Certificates, and servers with TLS.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis_fixture::{Certificates, ClientCertificate, Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream, crypto::ring};

/// A client's certificate and its key.
type Client = (PathBuf, PathBuf);

/// Whether the server at this name answers a client who trusts the authority.
fn answers(server: &Server, name: &str, authority: &Path, client: Option<Client>) -> bool {
    ping(server, name, authority, client).is_ok_and(|answer| answer == *b"+PONG\r\n")
}

fn ping(
    server: &Server,
    name: &str,
    authority: &Path,
    client: Option<Client>,
) -> io::Result<[u8; 7]> {
    let certificate = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((path, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let chain = vec![certificate(&path)];
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = name.to_owned().try_into().unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", server.tls_port()))?;
    let mut stream = Stream::new(&mut session, &mut stream);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_files_are_there_while_somebody_has_them() {
    let certificates = Certificates::new();
    let files = [
        certificates.authority(),
        certificates.other_authority(),
        certificates.server(),
        certificates.client(),
        certificates.stranger(),
    ];
    let keys = [
        certificates.server_key(),
        certificates.client_key(),
        certificates.stranger_key(),
    ];
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
    }
    for key in &keys {
        let text = fs::read_to_string(key).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{text}");
    }
    let another = certificates.clone();
    drop(certificates);
    assert!(files[0].exists());
    drop(another);
    assert!(!files[0].exists());
}

#[test]
fn clients_trust_the_server_by_its_authority() {
    if !Server::supports_tls() {
        return;
    }
    let certificates = Certificates::new();
    let server = Server::builder()
        .tls(&certificates, ClientCertificate::NotAsked)
        .start();
    let authority = certificates.authority();
    for name in ["localhost", "127.0.0.1"] {
        assert!(answers(&server, name, &authority, None), "{name}");
    }
    assert!(!answers(&server, "example.org", &authority, None));
    let other = certificates.other_authority();
    assert!(!answers(&server, "localhost", &other, None));
    // Its files outlive the certificates that were given.
    let text = fs::read(authority).unwrap();
    drop(certificates);
    server.restart();
    let kept = tempfile::NamedTempFile::new().unwrap();
    fs::write(kept.path(), text).unwrap();
    assert!(answers(&server, "localhost", kept.path(), None));
}

#[test]
fn a_server_may_ask_for_a_client_s_certificate() {
    if !Server::supports_tls() {
        return;
    }
    let certificates = Certificates::new();
    let server = Server::builder()
        .tls(&certificates, ClientCertificate::Required)
        .without_plain_port()
        .start();
    let authority = certificates.authority();
    let answers = |client| answers(&server, "localhost", &authority, client);
    let known = (certificates.client(), certificates.client_key());
    assert!(answers(Some(known)));
    assert!(!answers(None));
    let stranger = (certificates.stranger(), certificates.stranger_key());
    assert!(!answers(Some(stranger)));
}

#[test]
fn without_a_plain_port_commands_work_all_the_same() {
    if !Server::supports_tls() {
        return;
    }
    let certificates = Certificates::new();
    let server = Server::builder()
        .tls(&certificates, ClientCertificate::NotAsked)
        .without_plain_port()
        .start();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let port = server.command(&["CONFIG", "GET", "port"]).field("port");
    assert_eq!(port.unwrap(), "0");
    assert!(TcpStream::connect(("127.0.0.1", server.tls_port())).is_ok());
    let url = format!("rediss://127.0.0.1:{}/0", server.tls_port());
    assert_eq!(server.tls_url(), url);
}
