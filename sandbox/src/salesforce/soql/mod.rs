//! Salesforce's query language, as far as a client that looks records up needs it.
//! <https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql.htm>
//!
//! There are no aggregates but `COUNT()`, no subqueries, no functions and no date literals such as `TODAY`.
//!
//! [`parse`] reads a statement, [`bind`] checks it against the org's fields, and [`run`] carries it out.

mod bind;
mod lexer;
mod parser;
mod run;

pub(crate) use bind::{Bound, bind, bind_clauses, object_named, relationship_of};
pub(crate) use parser::{Parser, parse};
pub(crate) use run::{equalities, found, row};

use super::error;
use crate::answer::Answer;

/// A name in a statement, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) at: usize,
}

/// What a statement says, before anybody has looked whether the object and its fields exist.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Select {
    /// Empty for `COUNT()`.
    pub(crate) fields: Vec<Name>,
    pub(crate) object: Name,
    pub(crate) rest: Clauses,
}

/// What may follow the object: a filter, an order and a limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clauses {
    pub(crate) filter: Option<Condition<Name>>,
    pub(crate) order: Vec<Order<Name>>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order<F> {
    pub(crate) field: F,
    pub(crate) descending: bool,
    pub(crate) nulls_last: bool,
}

/// A filter over fields of type `F`: their names at first, the fields themselves once they are bound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition<F> {
    All(Vec<Condition<F>>),
    Any(Vec<Condition<F>>),
    Not(Box<Condition<F>>),
    Compare(F, Operator, Literal),
    In(F, Vec<Literal>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Number(f64),
    Flag(bool),
    Null,
    /// As the API answers it.
    Date(String),
    /// As the API answers it.
    DateTime(String),
}

/// What is wrong with a statement, where, and by which code Salesforce says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    code: &'static str,
    /// `None` for a message without a place.
    at: Option<usize>,
    what: String,
}

impl Fault {
    pub(crate) fn new(code: &'static str, at: impl Into<Option<usize>>, what: impl Into<String>) -> Self {
        Self { code, at: at.into(), what: what.into() }
    }

    pub(crate) fn malformed(at: impl Into<Option<usize>>, what: impl Into<String>) -> Self {
        Self::new("MALFORMED_QUERY", at, what)
    }

    /// Makes the vendor's answer: the part of the statement around the place, a caret below it, and what is wrong.
    pub(crate) fn answer(self, statement: &str, malformed: &'static str) -> Answer {
        let code = if self.code == "MALFORMED_QUERY" { malformed } else { self.code };
        let message = match self.at {
            None => self.what,
            Some(at) => {
                let before: String = statement.get(..at).unwrap_or_default().chars().rev().take(50).collect();
                let before: String = before.chars().rev().collect();
                let after: String = statement.get(at..).unwrap_or_default().chars().take(30).collect();
                let caret = format!("{}^", " ".repeat(before.chars().count()));
                let column = statement.get(..at).unwrap_or_default().chars().count() + 1;
                format!("\n{before}{after}\n{caret}\nERROR at Row:1:Column:{column}\n{}", self.what)
            }
        };
        let refusal = error::refused(400, code, &message);
        if code == malformed { error::violating(refusal, format!("{code}: {message}")) } else { refusal }
    }
}
