//! The stand-in for a system of record in `hookline dev --system-of-record`: settings that point at it, and its notes as
//! they would look there.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use hookline_common::settings::{HubSpotObject as Written, Settings};
use hookline_sandbox::receiver::SECRET;
use hookline_sandbox::{HubSpot, HubSpotOptions, Receiver, ReceiverOptions, Salesforce, SalesforceOptions};
use tokio_util::sync::CancellationToken;

use crate::dev_file::RecordStandIn;
use crate::note_view::rendered;
use crate::output;

/// How often a thread is rewritten here, so that a newcomer sees the second text soon.
const UPDATE_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecordSystem {
    /// People, notes and flags in Hookline's own store
    #[default]
    Builtin,
    /// A stand-in for HubSpot
    Hubspot,
    /// A stand-in for Salesforce
    Salesforce,
    /// A stand-in for an endpoint of your own
    Http,
}

pub(super) enum StandIn {
    None,
    HubSpot(HubSpot, Written, RecordStandIn),
    Salesforce(Salesforce, RecordStandIn),
    Receiver(Receiver, RecordStandIn),
}

impl StandIn {
    /// Starts the stand-in and points the settings at it, whatever system the configuration names.
    pub(super) async fn start(which: RecordSystem, settings: &mut Settings) -> anyhow::Result<Self> {
        let stand_in = match which {
            RecordSystem::Builtin => {
                RecordStandIn::configure(None, settings)?;
                return Ok(Self::None);
            }
            RecordSystem::Hubspot => {
                let token = format!("stand-in-{}", hex::encode(rand::random::<[u8; 12]>()));
                let options = HubSpotOptions { token: token.clone(), ..HubSpotOptions::default() };
                let hubspot = HubSpot::start(options).await.context("starting the stand-in for HubSpot")?;
                let address = RecordStandIn::HubSpot { base_url: hubspot.base_url(), token };
                RecordStandIn::configure(Some(address.clone()), settings)?;
                let own = &settings.system_of_record.hubspot;
                hubspot.add_hookline_properties(&own.contact_key_property, &own.opted_out_property);
                Self::HubSpot(hubspot, settings.system_of_record.hubspot.object, address)
            }
            RecordSystem::Salesforce => {
                let client_secret = format!("stand-in-{}", hex::encode(rand::random::<[u8; 12]>()));
                let options =
                    SalesforceOptions { client_secret: client_secret.clone(), ..SalesforceOptions::default() };
                let client_id = options.client_id.clone();
                let salesforce = Salesforce::start(options).await.context("starting the stand-in for Salesforce")?;
                let base_url = salesforce.base_url();
                let address = RecordStandIn::Salesforce { base_url, client_id, client_secret };
                RecordStandIn::configure(Some(address.clone()), settings)?;
                let own = &settings.system_of_record.salesforce;
                salesforce.add_hookline_fields(&own.task_key_field, &own.person_key_field, &own.opted_out_field);
                Self::Salesforce(salesforce, address)
            }
            RecordSystem::Http => {
                let receiver =
                    Receiver::start(ReceiverOptions::default()).await.context("starting the stand-in endpoint")?;
                let address = RecordStandIn::Http { url: receiver.url(), secret: SECRET.to_owned() };
                RecordStandIn::configure(Some(address.clone()), settings)?;
                Self::Receiver(receiver, address)
            }
        };
        settings.system_of_record.update_every = settings.system_of_record.update_every.min(UPDATE_EVERY);
        Ok(stand_in)
    }

    /// Returns what other commands need to know.
    pub(super) fn address(&self) -> Option<RecordStandIn> {
        match self {
            Self::None => None,
            Self::HubSpot(_, _, address) | Self::Salesforce(_, address) | Self::Receiver(_, address) => {
                Some(address.clone())
            }
        }
    }

    /// Returns a line for the greeting.
    pub(super) fn line(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::HubSpot(hubspot, ..) => format!("\x20 HubSpot    {} (stand-in)\n", hubspot.base_url()),
            Self::Salesforce(salesforce, _) => format!("\x20 Salesforce {} (stand-in)\n", salesforce.base_url()),
            Self::Receiver(receiver, _) => format!("\x20 records    {} (stand-in for your endpoint)\n", receiver.url()),
        }
    }

    /// Prints each note as it appears or changes, until `stop`.
    pub(super) async fn show_notes(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for (id, whose, text) in self.notes() {
                if shown.get(&id) != Some(&text) {
                    output::print_line(&boxed(&format!("{} {id} on {whose}", self.noun()), &text))?;
                    shown.insert(id, text);
                }
            }
        }
    }

    /// Names what a note is there.
    fn noun(&self) -> &'static str {
        match self {
            Self::HubSpot(_, Written::Communication, _) => "communication",
            Self::Salesforce(..) => "task",
            Self::None | Self::HubSpot(_, Written::Note, _) | Self::Receiver(..) => "note",
        }
    }

    /// Returns id, person and text of every note.
    fn notes(&self) -> Vec<(String, String, String)> {
        match self {
            Self::None => Vec::new(),
            Self::HubSpot(hubspot, object, _) => {
                let (notes, body) = match object {
                    Written::Communication => (hubspot.communications(), "hs_communication_body"),
                    Written::Note => (hubspot.notes(), "hs_note_body"),
                };
                let whose = |contacts: &[String]| format!("contact {}", contacts.join(", "));
                notes
                    .into_iter()
                    .map(|note| (note.id.clone(), whose(&note.contacts), rendered(note.get(body))))
                    .collect()
            }
            Self::Salesforce(salesforce, _) => {
                let tasks = salesforce.tasks().into_iter();
                tasks
                    .map(|task| {
                        let object = if task.who().starts_with("00Q") { "lead" } else { "contact" };
                        let text = format!("{}\n{}", task.get("Subject"), task.get("Description"));
                        (task.id.clone(), format!("{object} {}", task.who()), text)
                    })
                    .collect()
            }
            Self::Receiver(receiver, _) => {
                let whose = |data: &serde_json::Value| format!("person {}", data["person"]["id"]);
                let note =
                    |thread: hookline_sandbox::receiver::Thread| (thread.thread_id, whose(&thread.data), thread.text);
                receiver.threads().into_iter().map(note).collect()
            }
        }
    }

    pub(super) async fn stop(&self) {
        match self {
            Self::None => {}
            Self::HubSpot(hubspot, ..) => hubspot.stop().await,
            Self::Salesforce(salesforce, _) => salesforce.stop().await,
            Self::Receiver(receiver, _) => receiver.stop().await,
        }
    }
}

fn boxed(title: &str, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    │ {line}")).collect();
    format!("    ┌ {title}\n{}\n    └", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stands_in_a_box() {
        assert_eq!(boxed("note 1", "a\nb"), "    ┌ note 1\n    │ a\n    │ b\n    └");
    }
}
