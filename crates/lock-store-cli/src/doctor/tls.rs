//! A TLS handshake with whoever is there: what was shown is looked at whether
//! it is trusted or not, and nothing is said to whom it is not.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lock_store::RedisConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What came of a handshake.
pub(super) struct Handshake {
    /// What the server showed, its own certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether it is trusted for this name.
    pub(super) verdict: Result<(), Error>,
    /// How it went on.
    pub(super) outcome: io::Result<()>,
}

/// Shakes hands; `config` is whom to trust and who we are, or nobody in
/// particular, to see whether TLS is spoken at all.
pub(super) async fn shake_hands(
    config: Option<&RedisConfig>,
    host: &str,
    port: u16,
    limit: Duration,
) -> io::Result<Handshake> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match config {
        Some(config) => roots(config)?,
        None => RootCertStore::empty(),
    };
    let verifier = Arc::new(Looking::new(roots, provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let tls = match config.and_then(|config| config.ssl_certfile.as_ref().map(|it| (config, it))) {
        Some((config, certificate)) => {
            let key = config.ssl_keyfile.as_ref().unwrap_or(certificate);
            let chain = certificates(&std::fs::read(certificate)?)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
            builder.with_client_auth_cert(chain, key)
        }
        None => Ok(builder.with_no_client_auth()),
    };
    let tls = TlsConnector::from(Arc::new(tls.map_err(io::Error::other)?));
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let talk = async {
        let stream = TcpStream::connect((host, port)).await?;
        let mut stream = tls.connect(name, stream).await?;
        if verifier.trusts() {
            // Only what is read next tells whether our certificate is accepted.
            stream.write_all(b"PING\r\n").await?;
            stream.flush().await?;
            stream.read_u8().await?;
        }
        Ok(())
    };
    let outcome = match tokio::time::timeout(limit, talk).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let seen = verifier.seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Handshake {
        chain: seen.chain.clone(),
        verdict: seen.verdict.clone().unwrap_or(Ok(())),
        outcome,
    })
}

impl Handshake {
    /// Whether the other side spoke TLS at all.
    pub(super) fn was_answered(&self) -> bool {
        !self.chain.is_empty() || matches!(self.alert(), Some(Error::AlertReceived(_)))
    }

    /// What TLS itself found wrong.
    pub(super) fn alert(&self) -> Option<&Error> {
        let error = self.outcome.as_ref().err()?;
        error.get_ref()?.downcast_ref()
    }

    /// Whether only the date is wrong.
    pub(super) fn is_out_of_date(&self) -> bool {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        matches!(
            &self.verdict,
            Err(Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            ))
        )
    }
}

/// The authorities that count, as for the store.
fn roots(config: &RedisConfig) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &config.ssl_ca_certs {
        Some(path) => {
            for certificate in certificates(&std::fs::read(path)?)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// The certificates of a PEM file.
pub(super) fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

/// Looks at everything, and lets everything pass.
#[derive(Debug)]
struct Looking {
    /// None if there is no authority at all.
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    verdict: Option<Result<(), Error>>,
}

impl Looking {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Self {
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        Self {
            strict: builder.build().ok(),
            provider,
            seen: Mutex::default(),
        }
    }

    fn trusts(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(seen.verdict, Some(Ok(())))
    }
}

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match &self.strict {
            Some(strict) => strict
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(drop),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let shown = [end_entity].into_iter().chain(intermediates);
        let chain = shown.map(|it| it.clone().into_owned()).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.chain = chain;
        seen.verdict = Some(verdict);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// An error and what is behind it.
pub(super) fn in_words(error: &io::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.get_ref().and_then(|it| it.source());
    while let Some(it) = cause {
        // Writing into a text does not fail.
        let _ = write!(words, ": {it}");
        cause = it.source();
    }
    words
}
