//! The configuration, which is complete before anything starts. Variables `HOOKLINE__SECTION__KEY` win over the file
//! `hookline.toml`, and values `env:NAME` and `file:PATH` are followed. Each key is declared once, in `keys.rs`.

mod catalogue;
mod check;
mod declare;
mod environment;
mod example;
mod keys;
mod kinds;
mod load;
mod problem;
mod schema;
mod source;
mod text;
mod unknown;
mod value;
mod visit;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use catalogue::secret_keys;
pub use example::example;
pub use keys::*;
pub use kinds::webhook_url;
pub use load::{Loaded, Needs, Role, load, load_again};
pub use problem::{Location, Problem, Problems};
pub use schema::json_schema;
pub use text::parse_duration;

use std::path::Path;

use declare::Table;

use crate::event::SourceName;

impl Settings {
    /// Returns the settings of an empty `hookline.toml`.
    #[must_use]
    pub fn defaults() -> Self {
        <Self as Table>::defaults()
    }

    /// Returns the names of all sources, also of those whose secrets this program cannot read.
    pub fn source_names(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.iter().map(|source| &source.name).chain(&self.spared_sources)
    }
}

impl TlsSettings {
    /// Returns the certificate and its key, or `None` for plain HTTP. Loading refuses one without the other.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }
}

impl SourceSettings {
    /// Whether this source takes the webhooks that are posted to `url`. A proxy may add to the start of the path.
    #[must_use]
    pub fn takes_posts_to(&self, url: &url::Url) -> bool {
        takes_posts_to(&self.name, url)
    }
}

/// Whether a URL ends in the path of the source with this name.
#[must_use]
pub fn takes_posts_to(source: &SourceName, url: &url::Url) -> bool {
    url.path().trim_end_matches('/').strip_suffix(source.as_str()).is_some_and(|rest| rest.ends_with("/webhooks/"))
}

impl TextUsSettings {
    /// Returns the account that holds the integrations.
    #[must_use]
    pub fn primary_account(&self) -> &str {
        self.primary_account.as_deref().unwrap_or(&self.account)
    }
}

impl Settings {
    /// Returns what happens to a message of a person whom the system of record does not know.
    #[must_use]
    pub fn on_unknown_contact(&self) -> OnUnknownContact {
        self.handlers.log_note.on_unknown_contact.unwrap_or(match self.system_of_record.kind {
            SystemOfRecordKind::Builtin => OnUnknownContact::Create,
            SystemOfRecordKind::Salesforce | SystemOfRecordKind::HubSpot | SystemOfRecordKind::Http => {
                OnUnknownContact::DeadLetter
            }
        })
    }
}

impl HandlersSettings {
    #[must_use]
    pub fn basics(&self, handler: crate::names::HandlerName) -> &HandlerBasics {
        use crate::names::HandlerName;
        match handler {
            HandlerName::RecordOptOut => &self.record_opt_out.basics,
            HandlerName::FlagOptOut => &self.flag_opt_out.basics,
            HandlerName::LogNote => &self.log_note.basics,
            HandlerName::CreateContact => &self.create_contact.basics,
            HandlerName::SyncContact => &self.sync_contact.basics,
            HandlerName::RecordHistory => &self.record_history.basics,
        }
    }

    /// Returns the handlers that are enabled.
    #[must_use]
    pub fn enabled(&self) -> Vec<crate::names::HandlerName> {
        crate::names::HandlerName::ALL.iter().copied().filter(|handler| self.basics(*handler).enabled).collect()
    }
}
