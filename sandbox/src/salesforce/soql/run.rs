//! Carries a statement out.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::bind::{Bound, Path};
use super::{Condition, Literal, Operator};
use crate::salesforce::api::Call;
use crate::salesforce::org::Org;
use crate::salesforce::record::Record;
use crate::salesforce::schema::Field;
use crate::salesforce::sobjects::attributes;

/// Returns the records that fit, in order. `candidates` are those of the object.
pub(crate) fn found<'a>(org: &'a Org, bound: &Bound, candidates: impl Iterator<Item = &'a Record>) -> Vec<&'a Record> {
    let fits = |record: &&Record| bound.filter.as_ref().is_none_or(|filter| fits(org, record, filter));
    let mut records: Vec<&Record> = candidates.filter(fits).collect();
    if bound.order.is_empty() {
        // Without an order Salesforce promises none. The newest first is the one that clients expect least.
        records.reverse();
    }
    records.sort_by(|one, other| {
        let by = bound.order.iter().map(|order| {
            let (one, other) = (value(org, one, &order.field), value(org, other, &order.field));
            match (one.is_null(), other.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if order.nulls_last => Ordering::Greater,
                (true, false) => Ordering::Less,
                (false, true) if order.nulls_last => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) if order.descending => compare(&other, &one),
                (false, false) => compare(&one, &other),
            }
        });
        by.fold(Ordering::Equal, Ordering::then)
    });
    let limit = bound.limit.unwrap_or(usize::MAX);
    records.into_iter().skip(bound.offset).take(limit).collect()
}

/// Returns the object's own fields that must have these values in each record that fits.
pub(crate) fn equalities(bound: &Bound) -> Vec<(&Field, &str)> {
    let all = match &bound.filter {
        Some(Condition::All(all)) => all.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    all.into_iter().filter_map(equality).collect()
}

fn equality(condition: &Condition<Path>) -> Option<(&Field, &str)> {
    let Condition::Compare(Path { via: None, field }, Operator::Equal, Literal::Text(text)) = condition else {
        return None;
    };
    Some((field, text))
}

/// Returns a record as a query answers it.
pub(crate) fn row(org: &Org, record: &Record, fields: &[Path], call: &Call) -> Value {
    let mut row = attributes(record, call);
    for path in fields {
        let Some((relationship, reference)) = path.via else {
            row.insert(path.field.name.clone(), Org::value(record, &path.field));
            continue;
        };
        let Some(other) = org.record(record.text_of(reference).as_str()) else {
            row.insert(relationship.to_owned(), Value::Null);
            continue;
        };
        let nested = row.entry(relationship).or_insert_with(|| Value::Object(attributes(other, call)));
        if let Value::Object(nested) = nested {
            nested.insert(path.field.name.clone(), Org::value(other, &path.field));
        }
    }
    Value::Object(row.into_iter().collect::<Map<_, _>>())
}

fn value(org: &Org, record: &Record, path: &Path) -> Value {
    match path.via {
        None => Org::value(record, &path.field),
        Some((_, reference)) => match org.record(record.text_of(reference).as_str()) {
            Some(other) => Org::value(other, &path.field),
            None => Value::Null,
        },
    }
}

fn fits(org: &Org, record: &Record, condition: &Condition<Path>) -> bool {
    match condition {
        Condition::All(all) => all.iter().all(|one| fits(org, record, one)),
        Condition::Any(all) => all.iter().any(|one| fits(org, record, one)),
        Condition::Not(one) => !fits(org, record, one),
        Condition::In(path, literals) => {
            literals.iter().any(|literal| holds(path, &value(org, record, path), Operator::Equal, literal))
        }
        Condition::Compare(path, operator, literal) => holds(path, &value(org, record, path), *operator, literal),
    }
}

fn holds(path: &Path, value: &Value, operator: Operator, literal: &Literal) -> bool {
    if operator == Operator::Unequal {
        return !holds(path, value, Operator::Equal, literal);
    }
    let wanted = match literal {
        Literal::Null => return value.is_null(),
        Literal::Text(text) | Literal::Date(text) | Literal::DateTime(text) => json!(text),
        Literal::Number(number) => json!(number),
        Literal::Flag(flag) => json!(flag),
    };
    if value.is_null() {
        return false;
    }
    match (operator, value, &wanted) {
        (Operator::Equal, Value::String(value), Value::String(wanted)) => path.field.same(value, wanted),
        (Operator::Like, Value::String(value), Value::String(wanted)) => {
            is_like(&value.to_lowercase(), &wanted.to_lowercase())
        }
        (Operator::Equal, ..) => compare(value, &wanted) == Ordering::Equal,
        (Operator::Less, ..) => compare(value, &wanted) == Ordering::Less,
        (Operator::LessOrEqual, ..) => compare(value, &wanted) != Ordering::Greater,
        (Operator::Greater, ..) => compare(value, &wanted) == Ordering::Greater,
        (Operator::GreaterOrEqual, ..) => compare(value, &wanted) != Ordering::Less,
        (Operator::Like | Operator::Unequal, ..) => false,
    }
}

fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one.to_lowercase().cmp(&other.to_lowercase()),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (one, other) => one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Returns whether a pattern fits the whole text: `%` stands for any characters, `_` for one, and a backslash takes the
/// next one as it is.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('%') => {
            let rest = chars.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| is_like(&text[at..], rest))
        }
        Some(c) => {
            let wanted = if c == '\\' { chars.next() } else { Some(c) };
            let mut text = text.chars();
            let fits = text.next().is_some_and(|found| Some(found) == wanted || c == '_');
            fits && is_like(text.as_str(), chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_whole_text() {
        for (text, pattern, expected) in [
            ("doe", "d%", true),
            ("doe", "d_e", true),
            ("doe", "o%", false),
            ("doe", "%o%", true),
            ("d%e", "d\\%e", true),
            ("doe", "d\\%e", false),
            ("d\\e", "d\\\\e", true),
            ("", "%", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }
}
