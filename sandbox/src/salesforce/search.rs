//! Searches, in Salesforce's search language or with parameters. Both read an index that lags behind.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/dome-search.html>

use serde_json::{Value, json};

use super::api::Call;
use super::error;
use super::org::Org;
use super::record::{Fields, Record};
use super::rules::digits;
use super::schema::{Field, Kind};
use super::soql::{self, Bound, Clauses, Fault, Name, Parser};
use crate::answer::Answer;

/// Maximum number of rows.
const MAX_ROWS: usize = 2_000;
/// Characters that mean something in a search term unless a backslash stands before them.
const RESERVED: &str = "?&|!{}[]()^~*:\\\"'+-";

/// Which fields a search looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Name,
    Email,
    Phone,
}

impl Scope {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "ALL" => Self::All,
            "NAME" => Self::Name,
            "EMAIL" => Self::Email,
            "PHONE" => Self::Phone,
            _ => return None,
        })
    }

    fn contains(self, field: &Field) -> bool {
        match self {
            Self::All => matches!(field.kind, Kind::Text | Kind::TextArea | Kind::Phone | Kind::Email | Kind::Combobox),
            Self::Name => ["Name", "FirstName", "LastName", "Company", "Subject"].contains(&field.name.as_str()),
            Self::Email => field.kind == Kind::Email,
            Self::Phone => field.kind == Kind::Phone,
        }
    }
}

pub(crate) fn search(org: &Org, call: &Call) -> Result<Answer, Answer> {
    let Some(statement) = call.query("q") else {
        return Err(error::improper(400, "MALFORMED_SEARCH", "a search needs the parameter 'q'"));
    };
    let (term, scope, returning, limit) =
        parse(org, statement).map_err(|fault| fault.answer(statement, "MALFORMED_SEARCH"))?;
    Ok(answer(org, call, (&term, scope), &returning, limit))
}

pub(crate) fn parameterized(org: &Org, call: &Call) -> Result<Answer, Answer> {
    let missing = |what: &str| error::improper(400, "INVALID_SEARCH", what);
    let term = call.query("q").ok_or_else(|| missing("a search needs the parameter 'q'"))?;
    check_length(term).map_err(|fault| fault.answer(term, "MALFORMED_SEARCH"))?;
    let scope = call.query("in").map_or(Some(Scope::All), Scope::named).ok_or_else(|| missing("no such scope"))?;
    let number = |name: &str| call.query(name).and_then(|number| number.parse().ok());
    let mut returning = Vec::new();
    for name in call.queries("sobject") {
        let key = |suffix: &str| format!("{name}.{suffix}");
        let fields = call.query(&key("fields")).or_else(|| call.query("fields")).unwrap_or("Id");
        let filter = call.query(&key("where")).map_or_else(String::new, |filter| format!(" WHERE {filter}"));
        let statement = format!("SELECT {fields} FROM {name}{filter}");
        let bound = soql::parse(&statement).and_then(|select| soql::bind(org, &select));
        let mut bound = bound.map_err(|fault| fault.answer(&statement, "MALFORMED_SEARCH"))?;
        bound.limit = number(&key("limit")).or_else(|| number("defaultLimit"));
        returning.push(bound);
    }
    if returning.is_empty() {
        return Err(missing("the stand-in needs the parameter 'sobject'"));
    }
    Ok(answer(org, call, (term, scope), &returning, number("overallLimit")))
}

fn answer(org: &Org, call: &Call, sought: (&str, Scope), returning: &[Bound], limit: Option<usize>) -> Answer {
    let mut rows: Vec<Value> = Vec::new();
    for bound in returning {
        let candidates = org.live(bound.object).filter(|record| is_hit(org, record, sought));
        let found = soql::found(org, bound, candidates);
        rows.extend(found.into_iter().map(|record| soql::row(org, record, &bound.fields, call)));
    }
    rows.truncate(limit.unwrap_or(MAX_ROWS).min(MAX_ROWS));
    error::answer(200, json!({ "searchRecords": rows }))
}

fn parse(org: &Org, statement: &str) -> Result<(String, Scope, Vec<Bound>, Option<usize>), Fault> {
    let (term, start) = term_of(statement)?;
    let mut parser = Parser::new(statement, start)?;
    let mut scope = Scope::All;
    if parser.takes_word("in") {
        let name = parser.name()?;
        scope = Scope::named(&name.text)
            .ok_or_else(|| Fault::malformed(name.at, format!("unexpected token: '{}'", name.text)))?;
        parser.expect_word("fields")?;
    }
    parser.expect_word("returning")?;
    let mut returning = vec![returned(org, &mut parser)?];
    while parser.takes_sign(",") {
        returning.push(returned(org, &mut parser)?);
    }
    let limit = if parser.takes_word("limit") { Some(parser.count()?) } else { None };
    parser.expect_end()?;
    Ok((term, scope, returning, limit))
}

/// Reads one object of `RETURNING`, with what stands in parentheses behind it.
fn returned(org: &Org, parser: &mut Parser) -> Result<Bound, Fault> {
    let name = parser.name()?;
    let object = soql::object_named(org, &name)?;
    let (mut fields, mut rest) = (vec![Name { text: "Id".to_owned(), at: name.at }], Clauses::default());
    if parser.takes_sign("(") {
        fields = parser.names()?;
        rest = parser.clauses()?;
        parser.expect_sign(")")?;
    }
    soql::bind_clauses(org, object, &fields, &rest)
}

/// Reads `FIND {…}` and returns the term without its escapes, and where the rest begins.
fn term_of(statement: &str) -> Result<(String, usize), Fault> {
    let lead = statement.len() - statement.trim_start().len();
    let is_find = statement.get(lead..lead + 4).is_some_and(|word| word.eq_ignore_ascii_case("find"));
    let open = statement.find('{').filter(|open| is_find && statement[lead + 4..*open].trim().is_empty());
    let open = open.ok_or_else(|| Fault::malformed(lead, "unexpected token: expecting FIND {"))?;
    let mut term = String::new();
    let mut chars = statement[open + 1..].char_indices();
    while let Some((index, c)) = chars.next() {
        let at = open + 1 + index;
        match c {
            '}' => {
                check_length(&term)?;
                return Ok((term, at + 1));
            }
            '\\' => match chars.next() {
                Some((_, escaped)) if RESERVED.contains(escaped) => term.push(escaped),
                Some(_) | None => return Err(Fault::malformed(at, "mismatched character '\\'")),
            },
            // The stand-in has no operators in a term, so what isn't escaped is a mistake.
            c if RESERVED.contains(c) => {
                let what = format!("line 1:{at} mismatched character '{c}' expecting '}}'");
                return Err(Fault::malformed(at, what));
            }
            c => term.push(c),
        }
    }
    Err(Fault::malformed(statement.len(), "unexpected token: '<EOF>'"))
}

fn check_length(term: &str) -> Result<(), Fault> {
    if term.trim().chars().count() > 1 {
        return Ok(());
    }
    Err(Fault::malformed(None, format!("search term must be longer than one character: {term}")))
}

fn is_hit(org: &Org, record: &Record, (term, scope): (&str, Scope)) -> bool {
    let Some(fields) = record.in_index(org.options.index_lag) else { return false };
    org.schema(record.object).visible().filter(|field| scope.contains(field)).any(|field| {
        let Some(text) = fields.get(&field.name).and_then(Value::as_str) else { return false };
        if field.kind == Kind::Phone { has_number(text, term) } else { has_words(text, term) }
    }) || scope != Scope::Phone && scope != Scope::Email && has_words(&name_of(fields), term)
}

fn name_of(fields: &Fields) -> String {
    let part = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{} {}", part("FirstName"), part("LastName"))
}

/// Returns whether a stored number is the sought one, however either is written. Ten digits find a number with any
/// country code before them, so a number from abroad may be found by accident.
fn has_number(stored: &str, term: &str) -> bool {
    let main = stored.split(['x', 'X', ';', ',']).next().unwrap_or_default();
    let (stored, sought) = (digits(main), digits(term));
    stored == sought && !sought.is_empty() || sought.len() >= 10 && stored.ends_with(&sought)
}

/// Returns whether each word of the term is a word of the text.
fn has_words(text: &str, term: &str) -> bool {
    let (text, term) = (text.to_lowercase(), term.to_lowercase());
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut sought = term.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    sought.peek().is_some() && sought.all(|word| words.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_it_was_typed() {
        for (stored, term, expected) in [
            ("(415) 555-0123", "4155550123", true),
            ("+1 415.555.0123", "4155550123", true),
            ("4155550123 x12", "4155550123", true),
            ("(415) 555-0123", "14155550123", false),
            ("+44 415 555 0123", "4155550123", true),
            ("(415) 555-0123", "5550123", false),
            ("", "", false),
        ] {
            assert_eq!(has_number(stored, term), expected, "{stored} {term}");
        }
    }
}
