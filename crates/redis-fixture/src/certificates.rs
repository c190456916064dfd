//! Certificates for TLS.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// An authority and what it signed, as PEM files. Clones share the files,
/// which are deleted with the last of them.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: Arc<TempDir>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

type Issuer = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    /// Makes new ones.
    #[allow(
        clippy::new_without_default,
        reason = "keys at random are no default value"
    )]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("certificates-").tempdir();
        let certificates = Self {
            folder: Arc::new(folder.expect("a temporary folder")),
        };
        let authority = authority("redis-fixture");
        let other = self::authority("redis-fixture, another");
        certificates.write("authority.pem", &authority.pem());
        certificates.write("other-authority.pem", &other.pem());
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let hosts = ["localhost", "127.0.0.1"];
        let now = SystemTime::now();
        certificates.sign_until("expired", &hosts, server.clone(), &authority, now - DAY);
        certificates.sign_until(
            "expiring",
            &hosts,
            server.clone(),
            &authority,
            now + 10 * DAY,
        );
        certificates.sign("server", &hosts, server, &authority);
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        certificates.sign_until(
            "client-expiring",
            &[],
            client.clone(),
            &authority,
            now + 10 * DAY,
        );
        certificates.sign("client", &[], client.clone(), &authority);
        certificates.sign("stranger", &[], client, &other);
        certificates
    }

    /// The certificate of the authority, which clients are to trust.
    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// The certificate of another authority, which no server has to do with.
    pub fn other_authority(&self) -> PathBuf {
        self.path("other-authority.pem")
    }

    /// The certificate of a server at `localhost` or `127.0.0.1`.
    pub fn server(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// Its private key.
    pub fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// The certificate of the same server that ended yesterday.
    pub fn expired(&self) -> PathBuf {
        self.path("expired.pem")
    }

    /// Its private key.
    pub fn expired_key(&self) -> PathBuf {
        self.path("expired.key")
    }

    /// The certificate of the same server that ends in ten days.
    pub fn expiring(&self) -> PathBuf {
        self.path("expiring.pem")
    }

    /// Its private key.
    pub fn expiring_key(&self) -> PathBuf {
        self.path("expiring.key")
    }

    /// The certificate of a client that ends in ten days.
    pub fn expiring_client(&self) -> PathBuf {
        self.path("client-expiring.pem")
    }

    /// Its private key.
    pub fn expiring_client_key(&self) -> PathBuf {
        self.path("client-expiring.key")
    }

    /// The certificate of a client.
    pub fn client(&self) -> PathBuf {
        self.path("client.pem")
    }

    /// Its private key.
    pub fn client_key(&self) -> PathBuf {
        self.path("client.key")
    }

    /// The certificate of a client whom the other authority knows.
    pub fn stranger(&self) -> PathBuf {
        self.path("stranger.pem")
    }

    /// Its private key.
    pub fn stranger_key(&self) -> PathBuf {
        self.path("stranger.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn sign(&self, name: &str, hosts: &[&str], purpose: ExtendedKeyUsagePurpose, by: &Issuer) {
        self.sign_until(name, hosts, purpose, by, SystemTime::now() + 365 * DAY);
    }

    fn sign_until(
        &self,
        name: &str,
        hosts: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        by: &Issuer,
        end: SystemTime,
    ) {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![purpose];
        parameters.not_before = (end - 2 * 365 * DAY).into();
        parameters.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, by).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

fn authority(name: &str) -> Issuer {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(parameters, key).unwrap()
}
