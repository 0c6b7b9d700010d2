//! The file in which a running `hookline dev` publishes its webhook URL, its admin URL and its secret file for other
//! commands.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hookline_broker::embedded::EmbeddedBroker;
use hookline_common::secret::Secret;
use hookline_common::settings::{OnUnknownContact, Settings, SystemOfRecordKind};
use serde::{Deserialize, Serialize};

use crate::open;

const NAME: &str = "dev.json";

/// The contents of the file, which exists in the data directory while `dev` runs.
#[derive(Deserialize, Serialize)]
pub(crate) struct DevFile {
    pub(crate) webhook_url: String,
    /// The origin of `/livez`, `/readyz` and `/metrics`.
    pub(crate) admin_url: String,
    /// Path of the secret, absolute or relative to the data directory.
    pub(crate) secret_file: PathBuf,
    /// The stand-in for TextUs; `None` in the file of an earlier version.
    #[serde(default)]
    pub(crate) textus: Option<TextUsStandIn>,
    /// `None` for the built-in system of record.
    #[serde(default)]
    pub(crate) system_of_record: Option<RecordStandIn>,
}

/// Where the sandbox of this `dev` answers, and the token that it takes.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct TextUsStandIn {
    pub(crate) base_url: String,
    pub(crate) token: String,
}

impl TextUsStandIn {
    /// Points the settings at the stand-in.
    ///
    /// # Errors
    /// When its address is no URL.
    pub(crate) fn configure(self, settings: &mut Settings) -> Result<(), url::ParseError> {
        settings.textus.base_url = self.base_url.parse()?;
        settings.textus.token = Some(Secret::new(self.token));
        Ok(())
    }
}

/// The stand-in for a system of record that this `dev` runs.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) enum RecordStandIn {
    HubSpot { base_url: String, token: String },
    Salesforce { base_url: String, client_id: String, client_secret: String },
    Http { url: String, secret: String },
}

impl RecordStandIn {
    /// Points the settings at the stand-in; at the built-in system of record where there is none.
    ///
    /// # Errors
    /// When the stand-in's address is no URL.
    pub(crate) fn configure(stand_in: Option<Self>, settings: &mut Settings) -> Result<(), url::ParseError> {
        if stand_in.is_some() {
            // Nobody is in a stand-in that has just started, whatever is right for the real system.
            settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
        }
        let system = &mut settings.system_of_record;
        match stand_in {
            None => system.kind = SystemOfRecordKind::Builtin,
            Some(Self::HubSpot { base_url, token }) => {
                system.kind = SystemOfRecordKind::HubSpot;
                system.hubspot.base_url = base_url.parse()?;
                system.hubspot.token = Some(Secret::new(token));
            }
            Some(Self::Salesforce { base_url, client_id, client_secret }) => {
                system.kind = SystemOfRecordKind::Salesforce;
                let own = &mut system.salesforce;
                own.base_url = Some(base_url.parse()?);
                own.client_id = Some(Secret::new(client_id));
                own.client_secret = Some(Secret::new(client_secret));
                own.jwt_key = None;
            }
            Some(Self::Http { url, secret }) => {
                system.kind = SystemOfRecordKind::Http;
                system.http.url = Some(url.parse()?);
                system.http.secrets = vec![Secret::new(secret)];
            }
        }
        Ok(())
    }
}

/// Removes the file when dropped.
pub(crate) struct Written(PathBuf);

impl DevFile {
    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<Written> {
        let path = data_dir.join(NAME);
        write_private(&path, &serde_json::to_string(self)?)?;
        Ok(Written(path))
    }

    /// Reads the file of the `dev` that runs in this directory; returns `None` if none runs. A `dev` that was killed
    /// leaves its file behind, and that file doesn't count.
    pub(crate) fn of_running() -> anyhow::Result<Option<Self>> {
        let dir = open::dev_dir();
        let path = dir.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if !EmbeddedBroker::is_owned(&dir) {
            return Ok(None);
        }
        let not_ours =
            || format!("{} is not what this version's `hookline dev` writes; start it again", path.display());
        serde_json::from_str(&text).map(Some).with_context(not_ours)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // If the removal fails, the file stays; without an owner of the directory it doesn't count.
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .with_context(|| format!("cannot write {}", path.display()))
}
