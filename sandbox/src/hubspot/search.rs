//! Searches an index that lags behind. <https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm>

use serde_json::{Map, Value, json};

use super::account::Account;
use super::api::Call;
use super::object::HubSpotObject;
use super::record::Record;
use super::{associations, error, objects, write};
use crate::answer::Answer;

/// The guide says 5 groups of 6 filters, 18 in all; one interface description says 6 groups, and the lower one counts.
const MAX_GROUPS: usize = 5;
const MAX_FILTERS: usize = 6;
const MAX_FILTERS_IN_ALL: usize = 18;
const MAX_PAGE: u64 = 200;
const MAX_CHARACTERS: usize = 3_000;
const PAGE: u64 = 10;

pub(crate) fn search(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    if call.body.to_string().chars().count() > MAX_CHARACTERS {
        return Err(error::improper(400, format!("a search has at most {MAX_CHARACTERS} characters")));
    }
    let keys = ["filterGroups", "properties", "limit", "after", "sorts", "query"];
    let fields = write::object_of(&call.body, &keys)?;
    let groups = groups_of(account, object, fields)?;
    if ["query", "sorts"].iter().any(|key| fields.get(*key).is_some_and(|value| !is_blank(value))) {
        return Err(error::improper(400, "the stand-in has neither query nor sorts"));
    }
    let asked: Vec<String> = match fields.get("properties").filter(|names| !is_blank(names)) {
        None => objects::by_default(object),
        Some(names) => names.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    let limit = match fields.get("limit") {
        None => PAGE,
        Some(limit) => limit
            .as_u64()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| error::improper(400, format!("limit is a number from 1 to {MAX_PAGE}")))?,
    };
    let after = match fields.get("after") {
        None => 0,
        Some(Value::String(after)) => associations::page(account, after)?,
        Some(_) => return Err(error::improper(400, "after is a text")),
    };

    let lag = account.options.index_lag;
    let fits = |record: &&Record| record.is_indexed(lag) && groups.iter().any(|group| group.fits(record));
    let found: Vec<&Record> = account.live(object).filter(fits).collect();
    let (start, limit) = (usize::try_from(after).unwrap_or(usize::MAX), usize::try_from(limit).unwrap_or(usize::MAX));
    let results: Vec<Value> = found.iter().skip(start).take(limit).map(|record| record.body(Some(&asked))).collect();
    let next = start.saturating_add(limit);
    let mut body = json!({ "total": found.len(), "results": results });
    if next < found.len() {
        account.pages.insert(next.to_string());
        body["paging"] = json!({ "next": { "after": next.to_string() } });
    }
    Ok(error::answer(200, body))
}

/// Filters that must all hold.
struct Group(Vec<Filter>);

impl Group {
    fn fits(&self, record: &Record) -> bool {
        self.0.iter().all(|filter| filter.fits(record))
    }
}

struct Filter {
    property: String,
    operator: Operator,
}

enum Operator {
    Equals(String),
    In(Vec<String>),
    ContainsToken(String),
    HasProperty,
    HasNoProperty,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        let value = record.value(&self.property);
        match (&self.operator, value) {
            (Operator::HasProperty, value) => value.is_some(),
            (Operator::HasNoProperty, value) => value.is_none(),
            (Operator::Equals(wanted), Some(value)) => wanted.to_lowercase() == value.to_lowercase(),
            (Operator::In(wanted), Some(value)) => wanted.iter().any(|one| one.to_lowercase() == value.to_lowercase()),
            (Operator::ContainsToken(pattern), Some(value)) => has_tokens(&value, pattern),
            (Operator::Equals(_) | Operator::In(_) | Operator::ContainsToken(_), None) => false,
        }
    }
}

fn groups_of(account: &Account, object: HubSpotObject, fields: &Map<String, Value>) -> Result<Vec<Group>, Answer> {
    let mut groups = Vec::new();
    for group in write::members_of(fields, "filterGroups")? {
        let filters = write::members_of(write::object_of(group, &["filters"])?, "filters")?;
        if filters.is_empty() || filters.len() > MAX_FILTERS {
            return Err(error::improper(400, format!("a group has 1 to {MAX_FILTERS} filters")));
        }
        let filters = filters.iter().map(|filter| filter_of(account, object, filter)).collect::<Result<_, _>>()?;
        groups.push(Group(filters));
    }
    if groups.is_empty() || groups.len() > MAX_GROUPS {
        return Err(error::improper(400, format!("a search has 1 to {MAX_GROUPS} groups")));
    }
    if groups.iter().map(|group| group.0.len()).sum::<usize>() > MAX_FILTERS_IN_ALL {
        return Err(error::improper(400, format!("a search has at most {MAX_FILTERS_IN_ALL} filters")));
    }
    Ok(groups)
}

fn filter_of(account: &Account, object: HubSpotObject, filter: &Value) -> Result<Filter, Answer> {
    let fields = write::object_of(filter, &["propertyName", "operator", "value", "values"])?;
    let property = write::text_of(fields, "propertyName")?.to_owned();
    if !account.schema(object).properties.contains_key(&property) {
        let message = format!("There was a problem with the request: {property} is no property of {object}");
        return Err(error::refused(400, "VALIDATION_ERROR", message));
    }
    let operator = match write::text_of(fields, "operator")? {
        "EQ" => Operator::Equals(write::text_of(fields, "value")?.to_owned()),
        "CONTAINS_TOKEN" => Operator::ContainsToken(write::text_of(fields, "value")?.to_owned()),
        "IN" => {
            let values = write::members_of(fields, "values")?;
            Operator::In(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        "HAS_PROPERTY" => Operator::HasProperty,
        "NOT_HAS_PROPERTY" => Operator::HasNoProperty,
        other => return Err(error::improper(400, format!("the stand-in has no operator {other}"))),
    };
    Ok(Filter { property, operator })
}

/// Returns whether each word of the pattern is a word of the value. `*` at a word's ends stands for any characters.
fn has_tokens(value: &str, pattern: &str) -> bool {
    let value = value.to_lowercase();
    let words: Vec<&str> = value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let pattern = pattern.to_lowercase();
    let mut wanted =
        pattern.split(|c: char| !c.is_alphanumeric() && c != '*').filter(|word| !word.is_empty()).peekable();
    let fits = |wanted: &str| {
        let core = wanted.trim_matches('*');
        words.iter().any(|word| match (wanted.starts_with('*'), wanted.ends_with('*')) {
            (true, true) => word.contains(core),
            (true, false) => word.ends_with(core),
            (false, true) => word.starts_with(core),
            (false, false) => *word == core,
        })
    };
    wanted.peek().is_some() && wanted.all(fits)
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value == &json!("") || value == &json!([])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_word_or_a_part_of_one() {
        for (value, pattern, expected) in [
            ("+14155550123", "*4155550123", true),
            ("+14155550123", "4155550123", false),
            ("(415) 555-0123", "*4155550123", false),
            ("(415) 555-0123", "*0123", true),
            ("(415) 555-0123", "(415) 555-0123", true),
            ("Sam Doe", "doe", true),
            ("Sam Doe", "do*", true),
            ("Sam Doe", "+", false),
        ] {
            assert_eq!(has_tokens(value, pattern), expected, "{value} {pattern}");
        }
    }
}
