//! Words about errors on the way to a cluster that hold no secret and no path. kube-rs' own show where files are, the lines
//! around a mistake in a kubeconfig, and what a program that fetches credentials has printed.

use kube::client::AuthError;
use kube::config::KubeconfigError;
use std::error::Error;

/// What an error says that whoever asks for an action may read.
pub(crate) fn about(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(error) = cause.downcast_ref() {
            return kubeconfig(error);
        }
        if let Some(error) = cause.downcast_ref() {
            return credentials(error);
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return cause.to_string(),
        }
    }
}

fn kubeconfig(error: &KubeconfigError) -> String {
    let part = |name: &str, error: &(dyn Error + 'static)| format!("{name}: {}", innermost(error));
    match error {
        KubeconfigError::ReadConfig(error, _) => format!("it cannot be read: {error}"),
        KubeconfigError::Parse(_) => "it is no kubeconfig in YAML".to_owned(),
        KubeconfigError::LoadCertificateAuthority(error) => part("certificate-authority", error),
        KubeconfigError::LoadClientCertificate(error) => part("client-certificate", error),
        KubeconfigError::LoadClientKey(error) => part("client-key", error),
        error => error.to_string(),
    }
}

/// What is wrong with a token, or with what fetches it.
pub(crate) fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::ReadTokenFile(error, _) => format!("the token file cannot be read: {error}"),
        AuthError::AuthExecStart(error) => {
            format!("the program that fetches them cannot be started: {error}")
        }
        AuthError::AuthExecRun { out, .. } => {
            format!("the program that fetches them ended with {}", out.status)
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "the program that fetches them printed none".to_owned()
        }
        AuthError::InvalidBasicAuth(_) | AuthError::InvalidBearerToken(_) => {
            "they hold characters that no request can carry".to_owned()
        }
        error => innermost(error),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
