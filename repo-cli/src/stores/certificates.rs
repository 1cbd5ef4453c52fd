//! How stores on other machines prove who they are, and we to them.

use std::path::PathBuf;

use repo_core::store::tls::TlsOptions;

use super::{StoreSettings, read};
use crate::{cli::Global, environment::Environment, report::Result, settings};

/// What flags and variables say of it.
#[derive(Debug)]
pub(super) struct Certificates {
    cacert: Option<PathBuf>,
    tls_client_cert: Option<PathBuf>,
    insecure_tls: bool,
}

impl Certificates {
    pub(super) fn resolve(global: &Global, environment: &Environment) -> Result<Self> {
        let file = |flag: &Option<PathBuf>, name| {
            flag.clone().or_else(|| environment.get(name).map(|variable| PathBuf::from(variable.value)))
        };
        Ok(Self {
            cacert: file(&global.cacert, "CACERT"),
            tls_client_cert: file(&global.tls_client_cert, "TLS_CLIENT_CERT"),
            insecure_tls: global.insecure_tls || settings::switch(environment, "INSECURE_TLS")?,
        })
    }
}

impl StoreSettings {
    /// The certificates themselves.
    pub(super) fn tls(&self) -> Result<TlsOptions> {
        let Certificates { cacert, tls_client_cert, insecure_tls } = &self.certificates;
        let authorities_pem = cacert.as_deref().map(|path| read("the certificates", path)).transpose()?;
        let client_pem = tls_client_cert.as_deref().map(|path| read("our certificate", path)).transpose()?;
        Ok(TlsOptions { authorities_pem: authorities_pem.map(|pem| pem.to_vec()), client_pem, insecure: *insecure_tls })
    }
}
