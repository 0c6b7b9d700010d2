//! Queries and their pages. <https://developer.salesforce.com/docs/platform/api-rest/guide/resources-query.html>

use serde_json::{Value, json};

use super::api::Call;
use super::org::Org;
use super::{error, soql};
use crate::answer::Answer;

/// The greatest `OFFSET`.
const MAX_OFFSET: usize = 2_000;

pub(crate) fn query(org: &mut Org, call: &Call, with_deleted: bool) -> Result<Answer, Answer> {
    let Some(statement) = call.query("q") else {
        let message = "a query needs the parameter 'q'";
        return Err(error::improper(400, "MALFORMED_QUERY", message));
    };
    let bound = soql::parse(statement)
        .and_then(|select| soql::bind(org, &select))
        .map_err(|fault| fault.answer(statement, "MALFORMED_QUERY"))?;
    if bound.offset > MAX_OFFSET {
        return Err(error::refused(400, "NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000"));
    }
    let candidates = org.candidates(bound.object, &soql::equalities(&bound)).into_iter();
    let candidates = candidates.filter(|record| with_deleted || !record.deleted);
    let found = soql::found(org, &bound, candidates);
    let total = found.len();
    if bound.fields.is_empty() {
        return Ok(error::answer(200, json!({ "totalSize": total, "done": true, "records": [] })));
    }
    let rows: Vec<Value> = found.into_iter().map(|record| soql::row(org, record, &bound.fields, call)).collect();
    Ok(page(org, call, total, rows))
}

/// Answers the next page. A locator names one page, and works more than once.
pub(crate) fn more(org: &mut Org, call: &Call) -> Result<Answer, Answer> {
    let Some(rows) = org.cursors.get(call.route.id()).cloned() else {
        return Err(error::improper(400, "INVALID_QUERY_LOCATOR", "invalid query locator"));
    };
    let total = call.route.id().rsplit('-').next().and_then(|total| total.parse().ok()).unwrap_or(rows.len());
    Ok(page(org, call, total, rows))
}

fn page(org: &mut Org, call: &Call, total: usize, mut rows: Vec<Value>) -> Answer {
    let rest = rows.split_off(rows.len().min(org.options.page_size.max(1)));
    let mut body = json!({ "totalSize": total, "done": rest.is_empty(), "records": rows });
    if !rest.is_empty() {
        let locator = format!("01g5e{:09}AAA-{total}", org.cursors.len());
        body["nextRecordsUrl"] = json!(call.path_of(&format!("query/{locator}")));
        org.cursors.insert(locator, rest);
    }
    error::answer(200, body)
}
