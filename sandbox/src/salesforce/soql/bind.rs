//! Finds the fields that a statement names, and checks that each of them can be compared with what it is compared to.

use super::lexer::unescaped;
use super::{Clauses, Condition, Fault, Literal, Name, Operator, Order, Select};
use crate::salesforce::ids;
use crate::salesforce::object::SalesforceObject as Object;
use crate::salesforce::org::Org;
use crate::salesforce::schema::{Field, Kind};

/// A field of the object, or of the record to which a reference of the object leads.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The relationship's name and the reference that it follows.
    pub(crate) via: Option<(&'static str, &'static str)>,
    pub(crate) field: Field,
}

/// A statement whose object and fields exist.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) object: Object,
    /// Empty for `COUNT()`.
    pub(crate) fields: Vec<Path>,
    pub(crate) filter: Option<Condition<Path>>,
    pub(crate) order: Vec<Order<Path>>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

/// The names by which a statement follows a reference, the reference's field, and the objects to which it leads.
const RELATIONSHIPS: [(&str, &str, &[Object]); 7] = [
    ("Owner", "OwnerId", &[Object::User]),
    ("CreatedBy", "CreatedById", &[Object::User]),
    ("LastModifiedBy", "LastModifiedById", &[Object::User]),
    ("Who", "WhoId", &[Object::Contact, Object::Lead]),
    ("MasterRecord", "MasterRecordId", &[Object::Contact, Object::Lead]),
    ("RecordType", "RecordTypeId", &[Object::RecordType]),
    ("ConvertedContact", "ConvertedContactId", &[Object::Contact]),
];

/// What can be read of a record behind a reference that may lead to several kinds.
const NAME_FIELDS: [&str; 6] = ["Id", "Name", "FirstName", "LastName", "Phone", "Email"];

/// Returns the name by which a statement follows this reference.
pub(crate) fn relationship_of(field: &str) -> Option<&'static str> {
    RELATIONSHIPS.iter().find(|(_, reference, _)| *reference == field).map(|(name, ..)| *name)
}

pub(crate) fn bind(org: &Org, select: &Select) -> Result<Bound, Fault> {
    let object = object_named(org, &select.object)?;
    bind_clauses(org, object, &select.fields, &select.rest)
}

pub(crate) fn object_named(org: &Org, name: &Name) -> Result<Object, Fault> {
    Object::named(&name.text).filter(|object| !org.is_hidden(*object)).ok_or_else(|| {
        let what = format!(
            "sObject type '{}' is not supported. If you are attempting to use a custom object, be sure to append the \
             '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.",
            name.text
        );
        Fault::new("INVALID_TYPE", name.at, what)
    })
}

pub(crate) fn bind_clauses(org: &Org, object: Object, fields: &[Name], rest: &Clauses) -> Result<Bound, Fault> {
    let mut bound: Vec<Path> = Vec::new();
    for name in fields {
        let path = path(org, object, name)?;
        if bound.iter().any(|other| other.field.name == path.field.name && other.via == path.via) {
            let what = format!("duplicate field selected: {}", path.field.name);
            return Err(Fault::new("INVALID_FIELD", None, what));
        }
        bound.push(path);
    }
    let order = |order: &Order<Name>| {
        let field = path(org, object, &order.field)?;
        if !field.field.is_filterable() {
            let what = format!("field '{}' can not be sorted in a query call", field.field.name);
            return Err(Fault::new("INVALID_FIELD", order.field.at, what));
        }
        Ok(Order { field, descending: order.descending, nulls_last: order.nulls_last })
    };
    Ok(Bound {
        object,
        fields: bound,
        filter: rest.filter.as_ref().map(|filter| condition(org, object, filter)).transpose()?,
        order: rest.order.iter().map(order).collect::<Result<_, _>>()?,
        limit: rest.limit,
        offset: rest.offset,
    })
}

fn path(org: &Org, object: Object, name: &Name) -> Result<Path, Fault> {
    let Some((relationship, field)) = name.text.split_once('.') else {
        return match org.schema(object).field(&name.text) {
            Some(field) => Ok(Path { via: None, field: field.clone() }),
            None => Err(no_column(object.name(), &name.text, name.at)),
        };
    };
    let found = RELATIONSHIPS.into_iter().find(|(known, reference, _)| {
        known.eq_ignore_ascii_case(relationship) && org.schema(object).field(reference).is_some()
    });
    let (known, reference, targets) = found.ok_or_else(|| {
        let what = format!(
            "Didn't understand relationship '{relationship}' in field path. If you are attempting to use a custom \
             relationship, be sure to append the '__r' after the custom relationship name. Please reference your WSDL \
             or the describe call for the appropriate names."
        );
        Fault::new("INVALID_FIELD", name.at, what)
    })?;
    let target = if object == Object::Lead && targets.contains(&object) { object } else { targets[0] };
    let entity = if targets.len() > 1 { "Name" } else { target.name() };
    let field_found = org
        .schema(target)
        .field(field)
        .filter(|found| targets.len() == 1 || NAME_FIELDS.contains(&found.name.as_str()));
    let field = field_found.ok_or_else(|| no_column(entity, field, name.at))?.clone();
    Ok(Path { via: Some((known, reference)), field })
}

fn no_column(entity: &str, name: &str, at: usize) -> Fault {
    let what = format!(
        "No such column '{name}' on entity '{entity}'. If you are attempting to use a custom field, be sure to append \
         the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate \
         names."
    );
    Fault::new("INVALID_FIELD", at, what)
}

fn condition(org: &Org, object: Object, raw: &Condition<Name>) -> Result<Condition<Path>, Fault> {
    let each = |all: &[Condition<Name>]| all.iter().map(|one| condition(org, object, one)).collect::<Result<_, _>>();
    Ok(match raw {
        Condition::All(all) => Condition::All(each(all)?),
        Condition::Any(all) => Condition::Any(each(all)?),
        Condition::Not(one) => Condition::Not(Box::new(condition(org, object, one)?)),
        Condition::Compare(name, operator, literal) => {
            let path = filterable(org, object, name)?;
            let literal = literal_for(&path.field, *operator, literal, name.at)?;
            Condition::Compare(path, *operator, literal)
        }
        Condition::In(name, literals) => {
            let path = filterable(org, object, name)?;
            let literals = literals.iter().map(|one| literal_for(&path.field, Operator::Equal, one, name.at));
            let literals = literals.collect::<Result<_, _>>()?;
            Condition::In(path, literals)
        }
    })
}

fn filterable(org: &Org, object: Object, name: &Name) -> Result<Path, Fault> {
    let path = path(org, object, name)?;
    if path.field.is_filterable() {
        return Ok(path);
    }
    let what = format!("field '{}' can not be filtered in a query call", path.field.name);
    Err(Fault::new("INVALID_FIELD", name.at, what))
}

/// Checks the kind of a value that a field is compared with, and brings it into the form of stored values.
fn literal_for(field: &Field, operator: Operator, literal: &Literal, at: usize) -> Result<Literal, Fault> {
    let wrong = |kind: &str, how: &str| {
        let what = format!("value of filter criterion for field '{}' must be of type {kind}{how}", field.name);
        Fault::new("INVALID_FIELD", at, what)
    };
    let invalid = || {
        let what = format!("invalid operator on {} field", field.kind.name());
        Fault::new("INVALID_QUERY_FILTER_OPERATOR", at, what)
    };
    let is_order = !matches!(operator, Operator::Equal | Operator::Unequal | Operator::Like);
    match (&field.kind, literal) {
        (Kind::Boolean, Literal::Flag(_)) if is_order || operator == Operator::Like => Err(invalid()),
        (Kind::Boolean, Literal::Flag(_)) => Ok(literal.clone()),
        (Kind::Boolean, Literal::Text(_)) => Err(wrong("boolean", " and should not be enclosed in quotes")),
        (Kind::Boolean, _) => Err(wrong("boolean", "")),
        (_, Literal::Null) if is_order => Err(invalid()),
        (_, Literal::Null) => Ok(Literal::Null),
        (Kind::Number, Literal::Number(_)) => Ok(literal.clone()),
        (Kind::Number, _) => Err(wrong("double", " and should not be enclosed in quotes")),
        (Kind::Date, Literal::Date(_)) | (Kind::DateTime, Literal::DateTime(_)) => Ok(literal.clone()),
        (Kind::Date, _) => Err(wrong("date", " and should not be enclosed in quotes")),
        (Kind::DateTime, _) => Err(wrong("dateTime", " and should not be enclosed in quotes")),
        (Kind::Id | Kind::Reference(_), _) if operator == Operator::Like => Err(invalid()),
        (Kind::Id | Kind::Reference(_), Literal::Text(text)) => match ids::read(text) {
            Some(id) => Ok(Literal::Text(id)),
            None => Err(Fault::new("INVALID_QUERY_FILTER_OPERATOR", at, format!("invalid ID field: {text}"))),
        },
        (_, Literal::Text(text)) if operator == Operator::Like => Ok(Literal::Text(text.clone())),
        (_, Literal::Text(text)) => Ok(Literal::Text(unescaped(text))),
        (kind, _) => Err(wrong(kind.name(), " and should be enclosed in quotes")),
    }
}
