//! What the account needs to have: the properties that the configuration names, and no second logger of texts. Workers
//! change nothing here; `hookline check --connect` looks, and makes what is missing if it is told to
//! (<https://developers.hubspot.com/docs/api-reference/crm-properties-v3/guide>).

use std::collections::BTreeMap;

use hookline_common::names::Operation;
use hookline_common::settings::HubSpotObject;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Page, Record, Request};
use super::errors::is_refusal;
use super::notes::{self, Kind};
use super::people::segment;
use super::{HubSpot, OPT_OUT_SOURCE_PROPERTY, OPTED_IN_AT};
use crate::calls::held::paused_until;
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::pause_reason::HUBSPOT_PROPERTY_MISSING;

const CONTACTS: &str = "contacts";
/// The key of the record by which the check tries an upsert. The record is archived at once.
const TRIAL_KEY: &str = "hookline_trial";

/// A property that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The object's name in paths: `contacts`.
    pub object: &'static str,
    pub name: String,
    label: &'static str,
    /// Empty where any type is good.
    type_name: &'static str,
    field_type: &'static str,
    is_unique: bool,
}

/// What the account has in place of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The property, as it has to be.
    Good,
    Missing,
    /// A property of this name that is something else, in words.
    Different(String),
    /// The token may not read properties of this object.
    NotShown,
}

/// How notes will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKey {
    /// By the unique property.
    Upsert,
    /// One by one, with a look-up after an unknown outcome, for this reason.
    LookUp(String),
}

/// Whether TextUs's own synchronisation writes texts into the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VendorSync {
    /// HubSpot names a source like TextUs for this many of the records that were looked at.
    Seen(usize),
    NotSeen,
    /// HubSpot does not tell where records come from.
    NotTold,
}

/// A property as the API describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(default, rename = "type")]
    type_name: String,
    #[serde(default)]
    field_type: String,
    #[serde(default)]
    has_unique_value: bool,
}

#[derive(Deserialize)]
struct Group {
    name: String,
}

impl Property {
    fn is_same(&self, found: &Described) -> Found {
        // The user says what a template's text fits.
        if self.type_name.is_empty() {
            return Found::Good;
        }
        // Older accounts have check boxes that are enumerations of true and false.
        let is_check_box = self.type_name == "bool" && found.field_type == "booleancheckbox";
        if found.type_name != self.type_name && !is_check_box {
            return Found::Different(format!("it is of type {}, not {}", found.type_name, self.type_name));
        }
        if self.is_unique && !found.has_unique_value {
            return Found::Different("its values need not be unique".to_owned());
        }
        Found::Good
    }

    /// Says what to do where the account lacks the property.
    fn remedy(&self) -> &'static str {
        if self.type_name.is_empty() {
            "correct its name below [system_of_record.templates.person], or make the property in HubSpot"
        } else {
            "run `hookline check --connect --create-properties`"
        }
    }

    fn body(&self, group: &str) -> Value {
        let mut body = json!({
            "name": self.name,
            "label": self.label,
            "type": self.type_name,
            "fieldType": self.field_type,
            "groupName": group,
            "description": "Written by Hookline",
            "hasUniqueValue": self.is_unique,
        });
        if self.type_name == "bool" {
            let option = |(order, value, label)| json!({ "label": label, "value": value, "displayOrder": order, "hidden": false });
            body["options"] = [(0, "true", "Yes"), (1, "false", "No")].into_iter().map(option).collect();
        }
        body
    }
}

impl HubSpot {
    /// Returns the properties of contacts that are needed.
    #[must_use]
    pub fn contact_properties(&self) -> Vec<Property> {
        let of = |name: &str, label, type_name, field_type| Property {
            object: CONTACTS,
            name: name.to_owned(),
            label,
            type_name,
            field_type,
            is_unique: false,
        };
        let key = of(&self.properties.contact_key, "TextUs contact", "string", "text");
        vec![
            Property { is_unique: true, ..key },
            of(&self.properties.opted_out, "Opted out of texts", "bool", "booleancheckbox"),
            of(&self.properties.opted_out_at, "Opted out of texts at", "datetime", "date"),
            of(OPTED_IN_AT, "Opted in to texts at", "datetime", "date"),
            of(OPT_OUT_SOURCE_PROPERTY, "Source of the opt-out of texts", "string", "text"),
        ]
    }

    /// Returns the properties of contacts that templates fill. Whoever named them knows their types.
    #[must_use]
    pub fn template_properties(&self) -> Vec<Property> {
        let of = |name: &str| Property {
            object: CONTACTS,
            name: name.to_owned(),
            label: "",
            type_name: "",
            field_type: "",
            is_unique: false,
        };
        self.fields.names().map(of).collect()
    }

    /// Returns the property by which notes are written where the account takes it.
    #[must_use]
    pub fn note_property(&self) -> Property {
        Property {
            object: Kind::of(self.object).path,
            name: self.properties.thread_key.clone(),
            label: "TextUs thread",
            type_name: "string",
            field_type: "text",
            is_unique: true,
        }
    }

    /// # Errors
    /// Any [`DestinationError`].
    pub async fn look_for(&self, log: &CallLog, property: &Property) -> Result<Found, DestinationError> {
        let path = format!("{}/{}", property.object, segment(&property.name)?);
        let request = Request::of_properties(Operation::ReadSetUp, Method::GET, &path);
        match self.client.make(log, request).await {
            Ok(answer) => Ok(property.is_same(&answer.object()?)),
            Err(DestinationError::NotFound { .. }) => Ok(Found::Missing),
            Err(DestinationError::Forbidden { .. } | DestinationError::CredentialsRefused { status: 403, .. }) => {
                Ok(Found::NotShown)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a property. One that is there already stays as it is.
    ///
    /// # Errors
    /// Any [`DestinationError`]; `CredentialsRefused` with 403 means that the token lacks the scope for it.
    pub async fn create_property(&self, log: &CallLog, property: &Property) -> Result<(), DestinationError> {
        let group = match property.object {
            CONTACTS => "contactinformation".to_owned(),
            object => self.first_group(log, object).await?,
        };
        let request = Request::of_properties(Operation::ChangeSetUp, Method::POST, property.object);
        match self.client.make(log, request.with_body(property.body(&group))).await {
            Ok(_) | Err(DestinationError::Rejected { status: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn first_group(&self, log: &CallLog, object: &str) -> Result<String, DestinationError> {
        let request = Request::of_properties(Operation::ReadSetUp, Method::GET, &format!("{object}/groups"));
        let groups: Page<Group> = self.client.make(log, request).await?.object()?;
        groups
            .results
            .into_iter()
            .next()
            .map(|group| group.name)
            .ok_or_else(|| unreadable("it has no group of properties"))
    }

    /// Tries the upsert of a note by the unique property: twice, which must give one record, first as a new one. The
    /// record is archived then.
    ///
    /// # Errors
    /// Any [`DestinationError`] but a refusal, which is an answer here.
    pub async fn try_note_key(&self, log: &CallLog) -> Result<NoteKey, DestinationError> {
        let first = match self.upsert_trial(log).await {
            Ok(first) => first,
            Err(error) if is_refusal(&error) => return Ok(NoteKey::LookUp(error.detail())),
            Err(error) => return Err(error),
        };
        let second = self.upsert_trial(log).await;
        let path = format!("{}/{}", Kind::of(self.object).path, segment(&first.id)?);
        self.client.make(log, Request::of_objects(Operation::ChangeSetUp, Method::DELETE, &path)).await?;
        let second = second?;
        if second.id == first.id && second.is_new != Some(true) {
            return Ok(NoteKey::Upsert);
        }
        let path = format!("{}/{}", Kind::of(self.object).path, segment(&second.id)?);
        self.client.make(log, Request::of_objects(Operation::ChangeSetUp, Method::DELETE, &path)).await?;
        Ok(NoteKey::LookUp("two upserts of one key made two records".to_owned()))
    }

    async fn upsert_trial(&self, log: &CallLog) -> Result<Record, DestinationError> {
        let kind = Kind::of(self.object);
        let name = self.properties.thread_key.as_str();
        let mut properties = BTreeMap::from([
            (name, TRIAL_KEY.to_owned()),
            (kind.body, "A trial of Hookline's; it can be deleted.".to_owned()),
            ("hs_timestamp", hookline_common::time::Timestamp::now().to_string()),
        ]);
        if self.object == HubSpotObject::Communication {
            properties.insert("hs_communication_channel_type", "SMS".to_owned());
            properties.insert("hs_communication_logged_from", "CRM".to_owned());
        }
        let body = json!({ "inputs": [{ "id": TRIAL_KEY, "idProperty": name, "properties": properties }] });
        let path = format!("{}/batch/upsert", kind.path);
        self.client
            .write_one(log, Request::of_objects(Operation::ChangeSetUp, Method::POST, &path).with_body(body))
            .await
    }

    /// Looks whether an integration that is called like TextUs wrote texts or notes that aren't Hookline's.
    ///
    /// # Errors
    /// Any [`DestinationError`] but a refusal.
    pub async fn vendor_sync(&self, log: &CallLog) -> Result<VendorSync, DestinationError> {
        const SOURCE: &str = "hs_object_source_detail_1";
        let mut seen = 0;
        for object in [HubSpotObject::Communication, HubSpotObject::Note] {
            let kind = Kind::of(object);
            let filter = json!({ "propertyName": SOURCE, "operator": "CONTAINS_TOKEN", "value": "*textus*" });
            let body = json!({ "filterGroups": [{ "filters": [filter] }], "properties": [kind.body], "limit": 100 });
            let path = format!("{}/search", kind.path);
            let request = Request::of_objects(Operation::ReadSetUp, Method::POST, &path).with_body(body);
            match self.client.search(log, request).await {
                Ok(page) => {
                    seen +=
                        page.results.iter().filter(|record| !record.get(kind.body).is_some_and(notes::is_ours)).count();
                }
                Err(error) if is_refusal(&error) => return Ok(VendorSync::NotTold),
                Err(error) => return Err(error),
            }
        }
        Ok(if seen == 0 { VendorSync::NotSeen } else { VendorSync::Seen(seen) })
    }

    /// Whether the account has the unique property for notes. An object whose properties the token may not see counts
    /// as one without.
    pub(super) async fn key_property_is_there(&self, log: &CallLog) -> Result<bool, DestinationError> {
        Ok(self.look_for(log, &self.note_property()).await? == Found::Good)
    }

    /// Decides what a refusal of a call that names these properties of contacts is about. If one of them is missing,
    /// each such call would be refused, and so the destination is paused until a person has made it. `began_ms` is when
    /// the call was made, by the gate's clock.
    pub(super) async fn of_set_up(
        &self,
        log: &CallLog,
        began_ms: i64,
        names: &[&str],
        error: DestinationError,
    ) -> DestinationError {
        if !matches!(error, DestinationError::Rejected { status: 400, .. }) {
            return error;
        }
        let needed = [self.contact_properties(), self.template_properties()].concat();
        for property in needed.iter().filter(|property| names.contains(&property.name.as_str())) {
            let what = match self.look_for(log, property).await {
                Ok(Found::Good | Found::NotShown) => continue,
                Ok(Found::Missing) => "is missing".to_owned(),
                Ok(Found::Different(words)) => format!("is another one than is needed: {words}"),
                // HubSpot did nothing, so the whole call is made again.
                Err(look_up) => return look_up,
            };
            let remedy = property.remedy();
            tracing::error!(property = %property.name, "hubspot.set_up_incomplete: the property of contacts {what}; \
                {remedy}, then `hookline resume system_of_record`");
            self.client.gate().stop(began_ms, HUBSPOT_PROPERTY_MISSING);
            let why = format!(
                "calls to system_of_record are held: HubSpot's property {:?} of contacts {what}; {remedy}, then `hookline \
                 resume system_of_record`",
                property.name
            );
            return DestinationError::GateClosed { until: paused_until(), why, is_paused: true };
        }
        error
    }
}
