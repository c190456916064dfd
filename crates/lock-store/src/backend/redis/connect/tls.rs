//! Certificates, and who does the arithmetic.

use std::path::Path;

use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};

use crate::config::RedisConfig;
use crate::error::LockError;

pub(super) fn certificates(config: &RedisConfig) -> Result<TlsCertificates, LockError> {
    let client_tls = match (&config.ssl_certfile, &config.ssl_keyfile) {
        (Some(certificate), key) => Some(ClientTlsConfig {
            client_cert: read_file("ssl_certfile", certificate)?,
            // As in Rasa's client, one file may have both.
            client_key: match key {
                Some(key) => read_file("ssl_keyfile", key)?,
                None => read_file("ssl_certfile", certificate)?,
            },
        }),
        (None, Some(_)) => {
            return Err(LockError::config(
                "lock_store.ssl_keyfile needs lock_store.ssl_certfile beside it",
            ));
        }
        (None, None) => None,
    };
    let root_cert = match &config.ssl_ca_certs {
        Some(path) => Some(read_file("ssl_ca_certs", path)?),
        None => None,
    };
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    // Reads the files now, so that a wrong one is told as such.
    let probe = ConnectionAddr::TcpTls {
        host: "localhost".into(),
        port: 1,
        insecure: false,
        tls_params: None,
    };
    Client::build_with_tls(probe, certificates.clone()).map_err(|error| {
        LockError::config(format!(
            "lock_store.ssl_certfile, ssl_keyfile or ssl_ca_certs: {error}"
        ))
    })?;
    Ok(certificates)
}

fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, LockError> {
    std::fs::read(path).map_err(|error| {
        LockError::config(format!("lock_store.{key}: cannot read {}", path.display()))
            .with_source(error)
    })
}

/// TLS needs somebody to do the arithmetic. A program may have chosen already.
pub(super) fn use_a_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
