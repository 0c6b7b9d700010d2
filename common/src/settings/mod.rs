//! The whole configuration, complete before anything starts: `hookline.toml`, `HOOKLINE__SECTION__KEY` variables
//! over it, `env:NAME` and `file:PATH` values inside it. Each key is declared once, in `keys.rs`.

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

pub use example::example;
pub use keys::*;
pub use kinds::webhook_url;
pub use load::{Loaded, Needs, Role, load};
pub use problem::{Location, Problem, Problems};
pub use schema::json_schema;

use std::path::Path;

use declare::Table;

use crate::event::SourceName;

impl Settings {
    /// The settings of an empty `hookline.toml`.
    #[must_use]
    pub fn defaults() -> Self {
        <Self as Table>::defaults()
    }

    /// The names of all sources, whether or not their secrets are at hand.
    pub fn source_names(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.iter().map(|source| &source.name).chain(&self.spared_sources)
    }
}

impl TlsSettings {
    /// The certificate and its key; `None` for plain HTTP. Loading refuses the one without the other.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }
}

impl SourceSettings {
    /// Whether this is the source that webhooks posted there are from; a proxy in front may have put more before it.
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
    /// The account whose integrations are looked at.
    #[must_use]
    pub fn primary_account(&self) -> &str {
        self.primary_account.as_deref().unwrap_or(&self.account)
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

    /// The handlers that are switched on.
    #[must_use]
    pub fn enabled(&self) -> Vec<crate::names::HandlerName> {
        crate::names::HandlerName::ALL.iter().copied().filter(|handler| self.basics(*handler).enabled).collect()
    }
}
