//! How a store on another machine proves who it is, and we to it.

use std::fmt;

use zeroize::Zeroizing;

/// Certificates, as files in PEM form.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Whose signature a server's certificate needs, or the server's own; those that the system trusts if there are none.
    pub authorities_pem: Option<Vec<u8>>,
    /// Our own certificate and its private key.
    pub client_pem: Option<Zeroizing<Vec<u8>>>,
    /// Whether anybody is believed to be the server. Whoever is between can then read and change all that is sent.
    pub insecure: bool,
}

impl TlsOptions {
    /// Whether there is anything in it that can be wrong.
    #[cfg(feature = "http")]
    pub(super) const fn has_files(&self) -> bool {
        self.authorities_pem.is_some() || self.client_pem.is_some()
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsOptions")
            .field("authorities", &self.authorities_pem.is_some())
            .field("client", &self.client_pem.is_some())
            .field("insecure", &self.insecure)
            .finish()
    }
}

#[cfg(feature = "tls")]
pub(super) use client::{client_config, failure};

#[cfg(feature = "tls")]
mod client {
    use std::{fmt, sync::Arc};

    use rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        server::ParsedCertificate,
    };

    use super::TlsOptions;
    use crate::{
        error::{Error, StoreErrorKind},
        store::backend::Failure,
    };

    /// What connections are made with.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what was given is no certificate or no key, and when the system trusts nobody.
    pub(in crate::store) fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(options, Arc::clone(&provider))?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Invalid(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &options.client_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let wrong = |error: &dyn fmt::Display| bad("our own certificate and its key", error);
                let chain = certificates(pem).map_err(|error| wrong(&error))?;
                let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(&error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))?
            }
        };
        Ok(Arc::new(config))
    }

    fn bad(what: &str, reason: impl fmt::Display) -> Error {
        Error::Invalid(format!("the file with {what} is not valid: {reason}"))
    }

    fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match all {
            Ok(all) if all.is_empty() => Err("there is no certificate in it".to_owned()),
            Ok(all) => Ok(all),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What it means that no secure connection came about.
    pub(in crate::store) fn failure(error: &rustls::Error) -> Failure {
        use rustls::Error as Tls;
        match error {
            Tls::DecryptError => Failure::new(StoreErrorKind::Retry, "what came was changed on its way"),
            Tls::InvalidCertificate(_) => Failure::permanent(format!("the server does not prove who it is: {error}")),
            Tls::InvalidMessage(_) => {
                Failure::permanent("what answers does not speak TLS; is it http:// in place of https://?")
            }
            _ => Failure::permanent(format!("no secure connection: {error}")),
        }
    }

    /// Who is believed.
    #[derive(Debug)]
    struct Verifier {
        /// Nobody asks when anybody is believed.
        authorities: Option<Arc<WebPkiServerVerifier>>,
        /// Certificates that were given. One of these may also be the server's own, which a chain of trust does not allow for when it
        /// says of itself that it is an authority, as those made by hand do.
        given: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    }

    impl Verifier {
        fn new(options: &TlsOptions, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
            let mut roots = RootCertStore::empty();
            let mut given = Vec::new();
            if let Some(pem) = &options.authorities_pem {
                given = certificates(pem).map_err(|error| bad("certificates of authorities", error))?;
                for certificate in &given {
                    roots.add(certificate.clone()).map_err(|error| bad("certificates of authorities", error))?;
                }
            } else if !options.insecure {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(Error::Invalid(
                        "this system has no certificates of authorities (their package is often called ca-certificates)".into(),
                    ));
                }
            }
            let authorities = if options.insecure {
                None
            } else {
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                Some(builder.build().map_err(|error| bad("certificates of authorities", error))?)
            };
            Ok(Self { authorities, given, provider })
        }
    }

    impl ServerCertVerifier for Verifier {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp_response: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
            match authorities.verify_server_cert(end_entity, intermediates, name, ocsp_response, now) {
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                    if other.to_string().contains("CaUsedAsEndEntity")
                        && self.given.iter().any(|one| one == end_entity) =>
                {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                    Ok(ServerCertVerified::assertion())
                }
                verified => verified,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    }
}
