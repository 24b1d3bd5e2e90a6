//! What `init` and `demo` have in common: a configuration folder with certificates and tables.

use anyhow::{Context, bail};
use net::certificate::{self, NewKey, PemPair, Subject};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long self-signed certificates are valid (R12).
const CERTIFICATE_DAYS: u32 = 365;

/// A new configuration folder.
pub struct Setup {
    /// Where.
    pub folder: PathBuf,
    /// Name of this host.
    pub host_name: String,
    /// Name that mail clients use.
    pub mail_name: String,
    /// Country and organisation in the certificates.
    pub subject: (String, String),
}

impl Setup {
    /// Makes the folder, for its owner alone.
    pub fn make_folder(&self) -> anyhow::Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.with_context(|| format!("{} cannot be made", self.folder.display()))
    }

    /// Makes the certificates: RSA and ECDSA for SMTP, and an RSA one of their own for IMAP and POP3, so that one key lost
    /// is not both services lost (R10–R13).
    pub fn make_certificates(&self) -> anyhow::Result<()> {
        let tls = self.folder.join("tls");
        for (stem, names, kind) in self.certificates() {
            if tls.join(format!("{stem}-key.pem")).exists() {
                continue;
            }
            let pair = certificate::self_signed(&names, kind, CERTIFICATE_DAYS, &self.subject_of(&names))?;
            certificate::write_pair(&tls, stem, "cert", &pair)?;
        }
        Ok(())
    }

    /// Writes a signing request for each certificate, with a key of its own, for a certificate authority (R12).
    pub fn make_requests(&self) -> anyhow::Result<Vec<PathBuf>> {
        let tls = self.folder.join("tls");
        let mut written = Vec::new();
        for (stem, names, kind) in self.certificates() {
            let pair: PemPair = certificate::signing_request(&names, kind, &self.subject_of(&names))?;
            written.push(certificate::write_pair(&tls, &format!("ca-{stem}"), "csr", &pair)?.0);
        }
        Ok(written)
    }

    /// The certificates there are: stem of the files, names, kind of key.
    fn certificates(&self) -> [(&'static str, Vec<String>, NewKey); 4] {
        let smtp = vec![self.host_name.clone(), self.mail_name.clone()];
        let mail = vec![self.mail_name.clone()];
        [
            ("rsa", smtp.clone(), NewKey::Rsa2048),
            ("ecdsa", smtp, NewKey::EcdsaP256),
            ("mail-rsa", mail.clone(), NewKey::Rsa2048),
            ("mail-ecdsa", mail, NewKey::EcdsaP256),
        ]
    }

    fn subject_of(&self, names: &[String]) -> Subject {
        Subject {
            country: Some(self.subject.0.clone()),
            organization: Some(self.subject.1.clone()),
            common_name: names.first().cloned().unwrap_or_default(),
        }
    }

    /// Writes a file that is not there yet, with mode 0600. Files that are there stay as they are.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                Ok(file.sync_all()?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be written", path.display())),
        }
    }
}

/// Refuses a folder that holds a configuration already.
pub fn must_be_new(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("pillarbox.toml");
    if file.exists() {
        bail!("{} is there already; remove it, or name another folder with --folder", file.display());
    }
    Ok(())
}

/// The sets of certificates, as they stand in the configuration.
pub const CERTIFICATES: &str = r#"
# SMTP and the mailbox services have keys of their own, each RSA and ECDSA; the client's abilities choose.
[[certificates]]
name = "smtp"
chains = ["tls/rsa-cert.pem", "tls/ecdsa-cert.pem"]
keys = ["tls/rsa-key.pem", "tls/ecdsa-key.pem"]

[[certificates]]
name = "mail"
chains = ["tls/mail-rsa-cert.pem", "tls/mail-ecdsa-cert.pem"]
keys = ["tls/mail-rsa-key.pem", "tls/mail-ecdsa-key.pem"]
"#;

/// A listener, as it stands in the configuration.
pub fn listener(name: &str, protocol: &str, address: &str, tls: &str, certificates: &str) -> String {
    format!(
        "\n[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"{tls}\"\n\
         certificates = \"{certificates}\"\n"
    )
}

/// The aliases that every domain should have (R120).
pub fn role_aliases(domain: &str, target: &str) -> String {
    format!(
        "# address target[, target...]   (also: @{domain} target, for all that is not declared otherwise)\n\
         postmaster@{domain} {target}\nabuse@{domain} {target}\nwebmaster@{domain} {target}\n"
    )
}
