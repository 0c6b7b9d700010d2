//! `check --connect` for HubSpot: the token, the properties, the way in which notes are written, and whether TextUs's own
//! synchronisation writes texts already. With `--create-properties` what is missing is made.
//!
//! The calls pass a gate of their own. A worker that is paused because a property is missing must not keep this command
//! from making it.

use std::sync::Arc;

use anyhow::Context;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::Settings;
use hookline_worker::calls::log::CallLog;
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::records::hubspot::HubSpot;
use hookline_worker::records::hubspot::set_up::{Found, NoteKey, Property, VendorSync};

use super::connect::{Finding, Outcome};
use crate::open::StoreForCalls;

const TOKEN: &str = "HubSpot token";
const PROPERTIES: &str = "HubSpot properties";
const NOTES: &str = "HubSpot notes";
const OWNERS: &str = "HubSpot owners";
const SYNC: &str = "other loggers of texts";

/// The scopes for making properties, which workers do without.
const NEEDS_SCHEMA_SCOPE: &str = "add the scope crm.schemas.contacts.write to the token for this command, or make the \
    property by hand (docs/systems-of-record/hubspot.md)";
const ONE_BY_ONE: &str = "each is created with its association, and looked for on the contact's own records after a lost \
    answer";

struct Check {
    hubspot: HubSpot,
    log: CallLog,
    creates: bool,
    findings: Vec<Finding>,
}

pub(super) async fn try_all(settings: &Settings, creates: bool) -> Vec<Finding> {
    let store = match StoreForCalls::new().await {
        Ok(store) => store,
        Err(error) => return vec![failed(TOKEN, &error, "let this user write where TMPDIR names")],
    };
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let system = &settings.system_of_record;
    let hubspot = HubSpot::new(&system.hubspot, store.store.clone(), &metrics);
    let hubspot =
        match hubspot.map(|hubspot| hubspot.filling(&system.templates.person)).context("cannot build the client") {
            Ok(hubspot) => hubspot,
            Err(error) => return vec![failed(TOKEN, &error, "set [system_of_record.hubspot] token")],
        };
    let mut check = Check { hubspot, log: CallLog::default(), creates, findings: Vec::new() };
    if check.token(settings).await {
        check.properties().await;
        check.template_properties().await;
        check.notes().await;
        check.owners(!settings.system_of_record.authors.is_empty()).await;
        check.sync(settings.system_of_record.acknowledge_vendor_sync).await;
    }
    check.findings
}

impl Check {
    async fn token(&mut self, settings: &Settings) -> bool {
        let tried = self.hubspot.check_token(&self.log).await;
        let is_good = tried.is_ok();
        let remedy = match &tried {
            Err(DestinationError::CredentialsRefused { status: 403, .. }) => {
                "add the scopes crm.objects.contacts.read and crm.objects.contacts.write where the key was made"
            }
            Ok(()) | Err(_) => "check [system_of_record.hubspot] base_url and token; make a new key if it was revoked",
        };
        self.findings.push(match tried {
            Ok(()) => {
                let url = &settings.system_of_record.hubspot.base_url;
                ok(TOKEN, format!("{url} takes it, and it may read and change contacts"))
            }
            Err(error) => failed(TOKEN, &error.into(), remedy),
        });
        is_good
    }

    async fn properties(&mut self) {
        let (mut good, mut missing) = (Vec::new(), Vec::new());
        for property in self.hubspot.contact_properties() {
            let name = &property.name;
            match self.hubspot.look_for(&self.log, &property).await {
                Ok(Found::Good) => good.push(property.name),
                Ok(Found::Missing) => missing.push(property),
                Ok(Found::NotShown) => {
                    let outcome = Outcome::NotChecked(format!("the token may not see {name} of contacts"));
                    self.findings.push(Finding { what: PROPERTIES, outcome });
                }
                Ok(Found::Different(words)) => {
                    let remedy = "name another property in [system_of_record.hubspot], or delete this one in HubSpot and run \
                                  this with --create-properties";
                    let why = format!("{name} of contacts: {words}");
                    let outcome = Outcome::Failed { why, remedy: remedy.to_owned() };
                    self.findings.push(Finding { what: PROPERTIES, outcome });
                }
                Err(error) => self.findings.push(failed(PROPERTIES, &error.into(), "ask again")),
            }
        }
        if !good.is_empty() {
            self.findings.push(ok(PROPERTIES, format!("contacts have {}", good.join(", "))));
        }
        if !missing.is_empty() {
            let finding = self.missing(&missing).await;
            self.findings.push(finding);
        }
    }

    /// Looks for the properties that templates fill. Only whoever named them knows what to make, so nothing is made here.
    async fn template_properties(&mut self) {
        const REMEDY: &str = "correct the name below [system_of_record.templates.person] (the internal name counts, not the \
            label), or make the property in HubSpot";
        let mut good = Vec::new();
        for property in self.hubspot.template_properties() {
            match self.hubspot.look_for(&self.log, &property).await {
                Ok(Found::Good | Found::Different(_)) => good.push(property.name),
                Ok(Found::Missing) => {
                    let why = format!("contacts have no {}, which a template fills", property.name);
                    self.findings.push(Finding {
                        what: PROPERTIES,
                        outcome: Outcome::Failed { why, remedy: REMEDY.to_owned() },
                    });
                }
                Ok(Found::NotShown) => {
                    let outcome = Outcome::NotChecked(format!("the token may not see {} of contacts", property.name));
                    self.findings.push(Finding { what: PROPERTIES, outcome });
                }
                Err(error) => self.findings.push(failed(PROPERTIES, &error.into(), "ask again")),
            }
        }
        if !good.is_empty() {
            self.findings.push(ok(PROPERTIES, format!("templates fill {}", good.join(", "))));
        }
    }

    /// Makes what is missing on contacts, if this command may.
    async fn missing(&self, missing: &[Property]) -> Finding {
        let names = missing.iter().map(|property| property.name.as_str()).collect::<Vec<_>>().join(", ");
        if !self.creates {
            let remedy = "run `hookline check --connect --create-properties`; the token needs the scope \
                          crm.schemas.contacts.write for that";
            let outcome = Outcome::Failed { why: format!("contacts have no {names}"), remedy: remedy.to_owned() };
            return Finding { what: PROPERTIES, outcome };
        }
        for property in missing {
            if let Err(error) = self.hubspot.create_property(&self.log, property).await {
                let why = format!("{} of {names} could not be made on contacts", property.name);
                return failed(PROPERTIES, &anyhow::Error::from(error).context(why), NEEDS_SCHEMA_SCOPE);
            }
        }
        let words = "made on contacts; if the destination is paused: `hookline resume system_of_record`";
        ok(PROPERTIES, format!("{names} {words}"))
    }

    async fn notes(&mut self) {
        let property = self.hubspot.note_property();
        let (object, name) = (property.object, property.name.clone());
        let found = match self.hubspot.look_for(&self.log, &property).await {
            Ok(Found::Missing) if self.creates => {
                self.hubspot.create_property(&self.log, &property).await.map(|()| true)
            }
            Ok(found) => Ok(found == Found::Good),
            Err(error) => Err(error),
        };
        self.findings.push(match found {
            Ok(true) if self.creates => match self.hubspot.try_note_key(&self.log).await {
                Ok(NoteKey::Upsert) => {
                    ok(NOTES, format!("{object} are written by {name}: two upserts made one record"))
                }
                Ok(NoteKey::LookUp(why)) => {
                    ok(NOTES, format!("HubSpot does not upsert {object} ({why}), so {ONE_BY_ONE}"))
                }
                Err(error) => failed(NOTES, &error.into(), "ask again"),
            },
            Ok(true) => ok(NOTES, format!("{object} are written by {name}")),
            Ok(false) => ok(
                NOTES,
                format!("{object} have no unique {name}, so {ONE_BY_ONE}; --create-properties tries to make it"),
            ),
            // HubSpot does not document such a property on these objects, so a refusal is no fault.
            Err(
                error @ (DestinationError::Rejected { .. } | DestinationError::CredentialsRefused { status: 403, .. }),
            ) => ok(NOTES, format!("HubSpot makes no unique property on {object} ({error}), so {ONE_BY_ONE}")),
            Err(error) => failed(NOTES, &error.into(), "ask again"),
        });
    }

    async fn owners(&mut self, has_authors: bool) {
        let outcome = match self.hubspot.may_read_owners(&self.log).await {
            Ok(true) => Outcome::Ok("the author of a text becomes the note's owner, by e-mail address".to_owned()),
            Ok(false) if has_authors => {
                Outcome::Ok("[system_of_record] authors names them; the token may not look for others".to_owned())
            }
            Ok(false) => Outcome::NotChecked(
                "the token may not look for them, so notes have no owner; add the scope crm.objects.owners.read, or list \
                 the owners in [system_of_record] authors"
                    .to_owned(),
            ),
            Err(error) => Outcome::NotChecked(format!("{error}")),
        };
        self.findings.push(Finding { what: OWNERS, outcome });
    }

    async fn sync(&mut self, is_acknowledged: bool) {
        const ACKNOWLEDGE: &str = "switch that synchronisation off, or write acknowledge_vendor_sync = true below \
            [system_of_record] if doubled notes are wanted";
        const LOOK: &str = "HubSpot does not tell; look in HubSpot, under Settings > Integrations > Connected apps, whether \
            TextUs is connected, and in TextUs whether it logs texts there: both would write each text twice";
        let seen = self.hubspot.vendor_sync(&self.log).await;
        let outcome = match seen {
            _ if is_acknowledged => Outcome::Ok("acknowledged by acknowledge_vendor_sync".to_owned()),
            Ok(VendorSync::Seen(records)) => Outcome::Failed {
                why: format!("an integration called TextUs wrote texts here already ({records} seen)"),
                remedy: ACKNOWLEDGE.to_owned(),
            },
            Ok(VendorSync::NotSeen) => Outcome::Ok("no record names TextUs as its source".to_owned()),
            Ok(VendorSync::NotTold) => Outcome::NotChecked(LOOK.to_owned()),
            Err(error) => Outcome::NotChecked(format!("{error}; {LOOK}")),
        };
        self.findings.push(Finding { what: SYNC, outcome });
    }
}

fn ok(what: &'static str, found: String) -> Finding {
    Finding { what, outcome: Outcome::Ok(found) }
}

fn failed(what: &'static str, error: &anyhow::Error, remedy: &str) -> Finding {
    Finding { what, outcome: Outcome::Failed { why: format!("{error:#}"), remedy: remedy.to_owned() } }
}
