//! `check --connect` for Salesforce: the token, the fields and rights on each object, what a create would need, and whether
//! TextUs's own package is installed.
//!
//! The calls pass a gate of their own. A worker that is paused because a field is missing must not keep this command from
//! looking.

use std::sync::Arc;

use anyhow::Context;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::Settings;
use hookline_worker::calls::log::CallLog;
use hookline_worker::records::salesforce::Salesforce;
use hookline_worker::records::salesforce::set_up::VendorSync;

use super::connect::{Finding, Outcome};
use crate::open::StoreForCalls;

const TOKEN: &str = "Salesforce token";
const FIELDS: &str = "Salesforce fields";
const PEOPLE: &str = "new people in Salesforce";
const SYNC: &str = "other loggers of texts";

const DEPLOY: &str = "deploy deploy/salesforce/ and give Hookline's user its permission set \
    (docs/systems-of-record/salesforce.md); if the destination is paused: `hookline resume system_of_record`";

struct Check {
    salesforce: Salesforce,
    log: CallLog,
    findings: Vec<Finding>,
}

pub(super) async fn try_all(settings: &Settings) -> Vec<Finding> {
    let store = match StoreForCalls::new().await {
        Ok(store) => store,
        Err(error) => return vec![failed(TOKEN, &error, "let this user write where TMPDIR names")],
    };
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let salesforce = Salesforce::new(&settings.system_of_record, store.store.clone(), &metrics);
    let salesforce = match salesforce.context("cannot build the client") {
        Ok(salesforce) => salesforce,
        Err(error) => return vec![failed(TOKEN, &error, "correct [system_of_record.salesforce]")],
    };
    let mut check = Check { salesforce, log: CallLog::default(), findings: Vec::new() };
    if check.token(settings).await {
        check.fields().await;
        check.people().await;
        check.sync(settings.system_of_record.acknowledge_vendor_sync).await;
    }
    check.findings
}

impl Check {
    async fn token(&mut self, settings: &Settings) -> bool {
        let tried = self.salesforce.check_token(&self.log).await;
        let is_good = tried.is_ok();
        self.findings.push(match tried {
            Ok(()) => {
                let base_url = settings.system_of_record.salesforce.base_url.as_ref();
                let base_url = base_url.map(ToString::to_string).unwrap_or_default();
                ok(TOKEN, format!("{base_url} issues one and takes it"))
            }
            Err(error) => failed(
                TOKEN,
                &error.into(),
                "check base_url, client_id and the secret or key of [system_of_record.salesforce] against the external client \
                 app (docs/systems-of-record/salesforce.md)",
            ),
        });
        is_good
    }

    async fn fields(&mut self) {
        for object in self.salesforce.written_objects() {
            match self.salesforce.problems(&self.log, object).await {
                Ok(problems) if problems.is_empty() => {
                    let names = self.salesforce.field_names(object).join(", ");
                    self.findings.push(ok(FIELDS, format!("{object} has {names}, and Hookline's user may write them")));
                }
                Ok(problems) => {
                    let outcome = |why| Outcome::Failed { why, remedy: DEPLOY.to_owned() };
                    let findings = problems.into_iter().map(|why| Finding { what: FIELDS, outcome: outcome(why) });
                    self.findings.extend(findings);
                }
                Err(error) => self.findings.push(failed(FIELDS, &error.into(), "ask again")),
            }
        }
    }

    /// A create may not be wanted, so what it lacks is told and is no failure.
    async fn people(&mut self) {
        const WHEN: &str = "this matters where on_unknown_contact is \"create\" or the handler sync_contact is on";
        self.findings.push(match self.salesforce.problems_of_creates(&self.log).await {
            Ok(problems) if problems.is_empty() => ok(PEOPLE, "can be created".to_owned()),
            Ok(problems) => {
                let outcome = Outcome::NotChecked(format!("cannot be created: {}; {WHEN}", problems.join("; ")));
                Finding { what: PEOPLE, outcome }
            }
            Err(error) => failed(PEOPLE, &error.into(), "ask again"),
        });
    }

    async fn sync(&mut self, is_acknowledged: bool) {
        const ACKNOWLEDGE: &str = "switch off that TextUs writes texts to Salesforce itself, or write acknowledge_vendor_sync = \
            true below [system_of_record] if doubled notes are wanted";
        const LOOK: &str = "look in Salesforce, under Setup > Installed Packages, whether a package of TextUs is installed, and \
            in TextUs whether it logs texts there: both would write each text twice";
        let seen = self.salesforce.vendor_sync(&self.log).await;
        let outcome = match seen {
            _ if is_acknowledged => Outcome::Ok("acknowledged by acknowledge_vendor_sync".to_owned()),
            Ok(VendorSync::Seen(objects)) => Outcome::Failed {
                why: format!("Salesforce has objects that are called like TextUs: {}", objects.join(", ")),
                remedy: ACKNOWLEDGE.to_owned(),
            },
            // A package need not bring objects of its own, so this is no proof.
            Ok(VendorSync::NotSeen) => Outcome::Ok(format!("no object is called like TextUs; to be sure, {LOOK}")),
            Ok(VendorSync::NotTold) => Outcome::NotChecked(format!("Salesforce does not tell; {LOOK}")),
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
