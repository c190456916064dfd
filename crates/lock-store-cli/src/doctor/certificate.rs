//! What certificates say: for which names, and until when.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::finding::Finding;
use super::settings::text;
use super::tls::certificates;

/// Whoever has to ask somebody for a new one needs as long.
const SOON: u64 = 30 * 24 * 3600;

/// When the first of a server's certificates ends.
pub(super) fn of_server(chain: &[CertificateDer<'_>], at: &str) -> Finding {
    let name = format!("the certificate of {at}");
    let remedy = "renew the server's certificate, and restart Redis or set its tls-cert-file again";
    let all = chain.iter().map(|it| dates(it, &name, remedy));
    Finding::worst_of(all.collect())
}

/// When the certificates of this client end.
pub(super) fn of_client(file: &Path) -> Finding {
    let name = format!("this client's certificate {}", file.display());
    let pem = std::fs::read(file).and_then(|pem| certificates(&pem));
    let chain = match pem {
        Ok(chain) => chain,
        Err(error) => {
            let remedy = "see lock_store.ssl_certfile";
            return Finding::failure(format!("{name} cannot be read: {error}"), remedy);
        }
    };
    let remedy = "have a new one made, and put it into lock_store.ssl_certfile";
    let all = chain.iter().map(|it| dates(it, &name, remedy));
    Finding::worst_of(all.collect())
}

fn dates(certificate: &CertificateDer<'_>, name: &str, remedy: &str) -> Finding {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Finding::failure(format!("{name} makes no sense"), remedy);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let moment = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = certificate.validity();
    judge(
        moment(validity.not_before),
        moment(validity.not_after),
        now,
        name,
        remedy,
    )
}

fn judge(begin: u64, end: u64, now: u64, name: &str, remedy: &str) -> Finding {
    let span = |seconds| text(Duration::from_secs(seconds));
    if now < begin {
        return Finding::failure(
            format!("{name} is valid only in {}", span(begin - now)),
            "set the clock of this machine, or renew the certificate",
        );
    }
    match end.checked_sub(now) {
        None => Finding::failure(format!("{name} expired {} ago", span(now - end)), remedy),
        Some(left) if left < SOON => {
            Finding::warning(format!("{name} expires in {}", span(left)), remedy)
        }
        Some(left) => Finding::ok(format!("{name} is valid for {}", span(left))),
    }
}

/// The names that a certificate is for.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names.filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(bytes) = <[u8; 4]>::try_from(*bytes) {
                return Some(std::net::Ipv4Addr::from(bytes).to_string());
            }
            let bytes = <[u8; 16]>::try_from(*bytes).ok()?;
            Some(std::net::Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    }
}

/// Who vouches for it.
pub(super) fn issuer(certificate: &CertificateDer<'_>) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => certificate.issuer().to_string(),
        Err(_) => "nobody that can be read".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn a_month_before_its_end_is_the_time_to_say_so() {
        const DAY: u64 = 24 * 3600;
        let status = |now| judge(100 * DAY, 200 * DAY, now, "it", "renew it").status;
        assert_eq!(status(99 * DAY), Status::Failure);
        assert_eq!(status(100 * DAY), Status::Ok);
        assert_eq!(status(170 * DAY), Status::Ok);
        assert_eq!(status(170 * DAY + 1), Status::Warning);
        assert_eq!(status(200 * DAY), Status::Warning);
        assert_eq!(status(200 * DAY + 1), Status::Failure);
    }
}
