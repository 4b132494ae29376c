//! TLS in the modes of libpq (<https://www.postgresql.org/docs/15/libpq-ssl.html>).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maqet_domain::error::Cause;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::Failure;
use crate::password::read_secret;

/// Whether TLS is used, and what of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// Without TLS.
    Disable,
    /// With TLS if the server refuses a connection without.
    Allow,
    /// With TLS if the server supports it.
    Prefer,
    /// With TLS; the certificate is checked only if there are root certificates of this user.
    Require,
    /// With TLS, and a certificate of a known authority.
    VerifyCa,
    /// With TLS, and a certificate of a known authority for this host.
    VerifyFull,
}

impl std::str::FromStr for TlsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disable" => Ok(Self::Disable),
            "allow" => Ok(Self::Allow),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(format!(
                "`sslmode` is `{text}`: expected `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`"
            )),
        }
    }
}

/// The mode and the files of TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    /// The root certificates; `system` for those of the host.
    pub(crate) root: Option<PathBuf>,
    /// The root certificates that are used if they exist and no others are named.
    pub(crate) default_root: Option<PathBuf>,
    /// The certificate of this user and its key, if they exist.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

impl Tls {
    /// Returns what opens connections in `mode`; without TLS, no file is read.
    pub(crate) fn connector(&self, mode: SslMode) -> Result<MakeRustlsConnect, Failure> {
        let config = if mode == SslMode::Disable {
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(failed)?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        } else {
            self.client_config()?
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn client_config(&self) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(ring::default_provider());
        let check = self.check();
        let roots = if check == Check::Nothing { RootCertStore::empty() } else { self.roots()? };
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Unchecked(Arc::clone(&provider))),
            Check::Authority | Check::AuthorityAndName => {
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let verifier = verifier.build().map_err(failed)?;
                if check == Check::Authority { Arc::new(AnyName(verifier)) } else { verifier }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match self.client_certificate()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    /// Returns what is checked; as in libpq, root certificates turn `require` into `verify-ca`.
    fn check(&self) -> Check {
        let has_roots = self.root.is_some() || self.default_root.as_deref().is_some_and(Path::exists);
        match self.mode {
            TlsMode::VerifyFull => Check::AuthorityAndName,
            TlsMode::VerifyCa => Check::Authority,
            TlsMode::Require if has_roots => Check::Authority,
            TlsMode::Require | TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => Check::Nothing,
        }
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        let default = self.default_root.as_ref().filter(|path| path.exists());
        match self.root.as_ref().filter(|path| path.as_os_str() != "system").or(default) {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| of_file(file, error))?;
                }
            }
            None => {
                let _unusable = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }

    fn client_certificate(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Failure> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else { return Ok(None) };
        if !certificate.exists() {
            return Ok(None);
        }
        let text = read_secret(key).map_err(|failure| match failure {
            Failure::Value(error) => of_file(key, error),
            other => other,
        })?;
        let parsed = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| of_file(key, error))?;
        Ok(Some((certificates(certificate)?, parsed)))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    certificates.map_err(|error| of_file(file, error))
}

fn failed(error: impl Into<Cause>) -> Failure {
    Failure::Value(error.into())
}

fn of_file(file: &Path, error: impl Into<Cause>) -> Failure {
    Failure::Value(format!("cannot use `{}`: {}", file.display(), error.into()).into())
}

/// Accepts every certificate, as the modes below `verify-ca` do: they protect from listening, not from impersonation.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

/// Accepts certificates of known authorities for any name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            // The name is checked last, after the chain.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
