//! What the org needs to have: the fields that the configuration names, which Hookline's user may write, and no second
//! logger of texts. Workers change nothing here. `hookline check --connect` looks, and deploy/salesforce/ has what is
//! needed (<https://developer.salesforce.com/docs/platform/api-rest/guide/resources-sobject-describe.html>).

use hookline_common::names::Operation;
use reqwest::Method;
use serde::Deserialize;

use super::errors::not_made;
use super::person::{OPTIONAL, object_name};
use super::{Failure, OPT_OUT_SOURCE_FIELD, OPTED_IN_AT, Salesforce};
use crate::calls::held::paused_until;
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::pause_reason::SALESFORCE_SET_UP_INCOMPLETE;

use super::client::Request;

pub(super) const TASK: &str = "Task";
/// What the names of the objects of TextUs's own package hold, as far as anybody told us. In lower case.
const VENDOR: &str = "textus";

/// What a failure that may be about the set-up is about.
pub(super) enum Verdict {
    /// The call named a field that can be done without, and no longer does.
    Again,
    Failed(Failure),
}

/// Whether TextUs's own package is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VendorSync {
    /// These objects are called like TextUs.
    Seen(Vec<String>),
    NotSeen,
    /// Hookline's user may not list the objects.
    NotTold,
}

/// A field that the configuration names.
struct Needed {
    name: String,
    types: &'static [&'static str],
    key: Option<Key>,
}

/// What a field must be to be written by.
struct Key {
    tells_case: bool,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    createable: bool,
    #[serde(default)]
    updateable: bool,
    #[serde(default)]
    fields: Vec<DescribedField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct DescribedField {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    createable: bool,
    updateable: bool,
    external_id: bool,
    unique: bool,
    case_sensitive: bool,
    nillable: bool,
    defaulted_on_create: bool,
}

impl Described {
    fn field(&self, name: &str) -> Option<&DescribedField> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }
}

impl Needed {
    fn text(name: &str) -> Self {
        Self { name: name.to_owned(), types: &["string", "textarea", "picklist", "combobox"], key: None }
    }

    /// Returns what is wrong with the field, in words.
    fn problem(&self, object: &str, found: &Described) -> Option<String> {
        let name = &self.name;
        let Some(field) = found.field(name) else {
            return Some(format!("{object} has no field {name}, or Hookline's user may not see it"));
        };
        if !self.types.contains(&field.type_name.as_str()) {
            return Some(format!("{name} of {object} is of type {}, not {}", field.type_name, self.types[0]));
        }
        if !field.updateable || !field.createable {
            return Some(format!("Hookline's user may not write {name} of {object}"));
        }
        let key = self.key.as_ref()?;
        let lacks = [
            (!field.external_id, "an external id"),
            (!field.unique, "unique"),
            (key.tells_case && !field.case_sensitive, "case-sensitive"),
        ];
        let lacks: Vec<&str> = lacks.iter().filter(|(lacks, _)| *lacks).map(|(_, word)| *word).collect();
        (!lacks.is_empty()).then(|| format!("{name} of {object} is not {}", lacks.join(", not ")))
    }
}

impl Salesforce {
    /// Returns the objects that Hookline writes to.
    #[must_use]
    pub fn written_objects(&self) -> Vec<&'static str> {
        [TASK].into_iter().chain(self.objects.iter().map(|object| object_name(*object))).collect()
    }

    /// Returns the names of the fields of an object that the configuration names.
    #[must_use]
    pub fn field_names(&self, object: &str) -> Vec<String> {
        self.needed(object).into_iter().map(|needed| needed.name).collect()
    }

    fn needed(&self, object: &str) -> Vec<Needed> {
        let key = |name: &str, tells_case| Needed {
            name: name.to_owned(),
            types: &["string"],
            key: Some(Key { tells_case }),
        };
        if object == TASK {
            // Hookline's keys of threads are all in lower case.
            return vec![key(&self.fields.task_key, false)];
        }
        let date = |name: &str| Needed { name: name.to_owned(), types: &["datetime"], key: None };
        vec![
            key(&self.fields.person_key, true),
            Needed { name: self.fields.opted_out.clone(), types: &["boolean"], key: None },
            date(&self.fields.opted_out_at),
            date(OPTED_IN_AT),
            Needed::text(OPT_OUT_SOURCE_FIELD),
        ]
    }

    /// Returns what is missing or wrong about an object, in words.
    ///
    /// # Errors
    /// Any [`DestinationError`] but one that says that the object is hidden.
    pub async fn problems(&self, log: &CallLog, object: &str) -> Result<Vec<String>, DestinationError> {
        Ok(match self.describe(log, object).await? {
            Some(found) => self.problems_of(object, &found),
            None => vec![hidden(object)],
        })
    }

    /// Returns what keeps a person of the first object from being created: fields that are required and that nothing
    /// fills, and fields of templates that are not there.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn problems_of_creates(&self, log: &CallLog) -> Result<Vec<String>, DestinationError> {
        let Some(object) = self.objects.first().map(|object| object_name(*object)) else { return Ok(Vec::new()) };
        let Some(found) = self.describe(log, object).await? else { return Ok(vec![hidden(object)]) };
        let mut problems = Vec::new();
        if !found.createable {
            problems.push(format!("Hookline's user may not create a {object}"));
        }
        for name in self.templates.names() {
            match found.field(name) {
                Some(field) if field.createable => {}
                Some(_) => problems.push(format!("Hookline's user may not write {name} of {object}")),
                None => problems.push(format!("{object} has no field {name}, or Hookline's user may not see it")),
            }
        }
        let is_filled = |name: &str| {
            ["LastName", "Company"].contains(&name) || self.templates.names().any(|key| key.eq_ignore_ascii_case(name))
        };
        let missing = found.fields.iter().filter(|field| {
            field.createable
                && !field.nillable
                && !field.defaulted_on_create
                && field.type_name != "boolean"
                && !is_filled(&field.name)
        });
        problems.extend(missing.map(|field| {
            format!("{object} requires {}, so fill it by [system_of_record.templates] person", field.name)
        }));
        Ok(problems)
    }

    /// Looks whether the org has objects that are called like TextUs.
    ///
    /// # Errors
    /// Any [`DestinationError`] but a refusal.
    pub async fn vendor_sync(&self, log: &CallLog) -> Result<VendorSync, DestinationError> {
        #[derive(Deserialize)]
        struct Objects {
            sobjects: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let objects: Objects =
            match self.client.make(log, Request::new(Operation::ReadSetUp, Method::GET, "sobjects/")).await {
                Ok(answer) => answer.object()?,
                Err(failure) if failure.is_refusal() => return Ok(VendorSync::NotTold),
                Err(failure) => return Err(failure.error),
            };
        let names = objects.sobjects.into_iter().map(|object| object.name);
        let seen: Vec<String> = names.filter(|name| name.to_lowercase().contains(VENDOR)).collect();
        Ok(if seen.is_empty() { VendorSync::NotSeen } else { VendorSync::Seen(seen) })
    }

    /// Decides what a refusal is about. Where the set-up is incomplete, each such call would be refused, and so the
    /// destination is paused until a person has mended it. `began_ms` is when the call was made, by the gate's clock.
    pub(super) async fn of_set_up(&self, log: &CallLog, began_ms: i64, objects: &[&str], failure: Failure) -> Verdict {
        if !failure.may_be_of_set_up() {
            return Verdict::Failed(failure);
        }
        match self.look_at(log, began_ms, objects).await {
            Ok((Some(held), _)) => Verdict::Failed(held.into()),
            Ok((None, true)) => Verdict::Again,
            Ok((None, false)) => Verdict::Failed(failure),
            Err(look_up) => Verdict::Failed(not_made(look_up).into()),
        }
    }

    /// Looks whether these objects are set up as they must be, and pauses the destination if not.
    pub(super) async fn check_set_up(&self, log: &CallLog, objects: &[&str]) -> Result<Option<Failure>, Failure> {
        let began_ms = self.client.gate().now_ms();
        let (held, _) = self.look_at(log, began_ms, objects).await.map_err(not_made)?;
        Ok(held.map(Failure::from))
    }

    /// Returns why calls are held now, and whether an optional field is newly known to be hidden.
    async fn look_at(
        &self,
        log: &CallLog,
        began_ms: i64,
        objects: &[&str],
    ) -> Result<(Option<DestinationError>, bool), DestinationError> {
        let mut is_news = false;
        for object in objects {
            let problems = match self.describe(log, object).await? {
                None => vec![hidden(object)],
                Some(found) => {
                    if *object != TASK {
                        let lost =
                            OPTIONAL.into_iter().filter(|name| *object == "Contact" && found.field(name).is_none());
                        is_news |= lost.filter(|name| self.hidden.add(name)).count() > 0;
                    }
                    self.problems_of(object, &found)
                }
            };
            if problems.is_empty() {
                continue;
            }
            return Ok((Some(self.stop(began_ms, &problems.join("; "))), is_news));
        }
        Ok((None, is_news))
    }

    /// Pauses the destination until a person has mended the set-up.
    pub(super) fn stop(&self, began_ms: i64, problems: &str) -> DestinationError {
        tracing::error!(%problems, "salesforce.set_up_incomplete: mend this, look with `hookline check --connect`, then \
            `hookline resume system_of_record`");
        self.client.gate().stop(began_ms, SALESFORCE_SET_UP_INCOMPLETE);
        let why = format!(
            "calls to system_of_record are held: {problems}; mend this, look with `hookline check --connect`, then `hookline \
             resume system_of_record`"
        );
        DestinationError::GateClosed { until: paused_until(), why, is_paused: true }
    }

    fn problems_of(&self, object: &str, found: &Described) -> Vec<String> {
        let mut problems: Vec<String> =
            self.needed(object).iter().filter_map(|needed| needed.problem(object, found)).collect();
        if object == TASK && !found.createable {
            problems.push("Hookline's user may not create a Task".to_owned());
        }
        if !found.updateable {
            problems.push(format!("Hookline's user may not change a {object}"));
        }
        if object != TASK {
            let unseen = ["Phone", "MobilePhone"].into_iter().filter(|name| found.field(name).is_none());
            problems.extend(unseen.map(|name| format!("Hookline's user may not see {name} of {object}")));
        }
        problems
    }

    /// Returns what an object is; `None` if Hookline's user may not see it.
    async fn describe(&self, log: &CallLog, object: &str) -> Result<Option<Described>, DestinationError> {
        let request = Request::new(Operation::ReadSetUp, Method::GET, format!("sobjects/{object}/describe"));
        match self.client.make(log, request).await {
            Ok(answer) => answer.object().map(Some),
            Err(failure) if failure.is_refusal() => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }
}

fn hidden(object: &str) -> String {
    format!("Hookline's user may not see the object {object}")
}
