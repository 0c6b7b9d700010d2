//! What an object's fields are, as far as the app's user may see them.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/resources-sobject-describe.html>

use serde_json::{Value, json};

use super::api::Call;
use super::error;
use super::object::SalesforceObject;
use super::org::Org;
use super::schema::{Field, Kind};
use crate::answer::Answer;

pub(crate) fn describe(org: &Org, object: SalesforceObject, call: &Call) -> Answer {
    let is_writable = object.is_writable() && !org.options.read_only_objects.contains(&object);
    let path = call.path_of(&format!("sobjects/{object}"));
    let fields: Vec<Value> = org.schema(object).visible().map(|field| field_of(org, object, field)).collect();
    let record_types = org
        .live(SalesforceObject::RecordType)
        .filter(|record| record.text("SobjectType") == object.name() && object != SalesforceObject::RecordType);
    let record_types: Vec<Value> = record_types
        .map(|record| {
            json!({
                "active": record.value("IsActive"),
                "available": true,
                "defaultRecordTypeMapping": false,
                "developerName": record.text("DeveloperName"),
                "master": false,
                "name": record.text("Name"),
                "recordTypeId": record.id,
            })
        })
        .collect();
    let body = json!({
        "name": object.name(),
        "label": object.name(),
        "keyPrefix": object.prefix(),
        "custom": false,
        "createable": is_writable,
        "updateable": is_writable,
        "deletable": is_writable,
        "queryable": true,
        "retrieveable": true,
        "searchable": object.is_person(),
        "fields": fields,
        "recordTypeInfos": record_types,
        "urls": { "sobject": path, "describe": format!("{path}/describe"), "rowTemplate": format!("{path}/{{ID}}") },
    });
    error::answer(200, body)
}

fn field_of(org: &Org, object: SalesforceObject, field: &Field) -> Value {
    let is_writable = object.is_writable() && !org.options.read_only_objects.contains(&object);
    let value = |value: &String| {
        let is_default = field.default.as_ref() == Some(&json!(value));
        json!({ "active": true, "defaultValue": is_default, "label": value, "value": value })
    };
    let values: Vec<Value> =
        if let Kind::Picklist(values) = &field.kind { values.iter().map(value).collect() } else { Vec::new() };
    let targets: Vec<&str> = if let Kind::Reference(objects) = &field.kind {
        objects.iter().map(|object| object.name()).collect()
    } else {
        Vec::new()
    };
    json!({
        "name": field.name,
        "label": field.label,
        "type": field.kind.name(),
        "length": field.length,
        "custom": field.custom,
        "externalId": field.external_id,
        "idLookup": field.external_id || field.name == "Id",
        "unique": field.unique,
        "caseSensitive": field.case_sensitive,
        "createable": is_writable && field.createable,
        "updateable": is_writable && org.is_updateable(object, field),
        "nillable": field.nillable,
        "defaultedOnCreate": field.default.is_some() || field.name == "OwnerId",
        "filterable": field.is_filterable(),
        "calculated": false,
        "restrictedPicklist": matches!(field.kind, Kind::Picklist(_)),
        "picklistValues": values,
        "referenceTo": targets,
        "relationshipName": super::soql::relationship_of(&field.name),
    })
}
