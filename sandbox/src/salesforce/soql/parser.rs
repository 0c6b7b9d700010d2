//! Reads a statement.

use jiff::Timestamp;

use super::lexer::{self, Token};
use super::{Clauses, Condition, Fault, Literal, Name, Operator, Order, Select};
use crate::salesforce::record::date_time;

/// Maximum length of a statement.
const MAX_CHARACTERS: usize = 100_000;

/// Words that end a list or a condition, so they are no names.
const KEYWORDS: [&str; 16] = [
    "select", "from", "where", "order", "limit", "offset", "and", "or", "not", "in", "like", "null", "true", "false",
    "group", "having",
];

pub(crate) fn parse(statement: &str) -> Result<Select, Fault> {
    if statement.chars().count() > MAX_CHARACTERS {
        return Err(Fault::malformed(None, "SOQL statements cannot be longer than 100000 characters."));
    }
    if statement.trim().is_empty() {
        return Err(Fault::malformed(None, "SOQL statements cannot be empty or null"));
    }
    let mut parser = Parser::new(statement, 0)?;
    parser.expect_word("select")?;
    let fields = if parser.takes_count()? { Vec::new() } else { parser.names()? };
    parser.expect_word("from")?;
    let object = parser.name()?;
    let rest = parser.clauses()?;
    parser.expect_end()?;
    Ok(Select { fields, object, rest })
}

pub(crate) struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
}

impl Parser {
    pub(crate) fn new(statement: &str, start: usize) -> Result<Self, Fault> {
        Ok(Self { tokens: lexer::tokens(statement, start)?, next: 0 })
    }

    fn peek(&self) -> &(Token, usize) {
        self.tokens.get(self.next).or(self.tokens.last()).expect("a list of tokens ends in one that says so")
    }

    fn take(&mut self) -> (Token, usize) {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// Takes the next token if it is this keyword.
    pub(crate) fn takes_word(&mut self, wanted: &str) -> bool {
        let is_it = matches!(&self.peek().0, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(is_it);
        is_it
    }

    pub(crate) fn takes_sign(&mut self, wanted: &str) -> bool {
        let is_it = matches!(&self.peek().0, Token::Sign(sign) if *sign == wanted);
        self.next += usize::from(is_it);
        is_it
    }

    pub(crate) fn expect_word(&mut self, wanted: &str) -> Result<(), Fault> {
        if self.takes_word(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn expect_sign(&mut self, wanted: &str) -> Result<(), Fault> {
        if self.takes_sign(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn expect_end(&mut self) -> Result<(), Fault> {
        if self.peek().0 == Token::End { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Fault {
        let (token, at) = self.peek();
        let what = match token {
            Token::Word(word) | Token::Bare(word) => word.clone(),
            Token::Text(_) => "'".to_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<EOF>".to_owned(),
        };
        Fault::malformed(*at, format!("unexpected token: '{what}'"))
    }

    /// Takes `COUNT()`.
    fn takes_count(&mut self) -> Result<bool, Fault> {
        if !self.takes_word("count") {
            return Ok(false);
        }
        self.expect_sign("(")?;
        self.expect_sign(")")?;
        Ok(true)
    }

    pub(crate) fn names(&mut self) -> Result<Vec<Name>, Fault> {
        let mut names = vec![self.name()?];
        while self.takes_sign(",") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    pub(crate) fn name(&mut self) -> Result<Name, Fault> {
        match self.peek() {
            (Token::Word(word), at) if !KEYWORDS.contains(&word.to_lowercase().as_str()) => {
                let name = Name { text: word.clone(), at: *at };
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(crate) fn clauses(&mut self) -> Result<Clauses, Fault> {
        let filter = if self.takes_word("where") { Some(self.condition()?) } else { None };
        let mut order = Vec::new();
        if self.takes_word("order") {
            self.expect_word("by")?;
            order.push(self.order()?);
            while self.takes_sign(",") {
                order.push(self.order()?);
            }
        }
        let limit = if self.takes_word("limit") { Some(self.count()?) } else { None };
        let offset = if self.takes_word("offset") { self.count()? } else { 0 };
        Ok(Clauses { filter, order, limit, offset })
    }

    fn order(&mut self) -> Result<Order<Name>, Fault> {
        let field = self.name()?;
        let descending = self.takes_word("desc");
        if !descending {
            self.takes_word("asc");
        }
        let mut nulls_last = false;
        if self.takes_word("nulls") {
            nulls_last = self.takes_word("last");
            if !nulls_last {
                self.expect_word("first")?;
            }
        }
        Ok(Order { field, descending, nulls_last })
    }

    pub(crate) fn count(&mut self) -> Result<usize, Fault> {
        let fault = self.unexpected();
        match self.take().0 {
            Token::Bare(digits) => digits.parse().map_err(|_| fault),
            Token::Word(_) | Token::Text(_) | Token::Sign(_) | Token::End => Err(fault),
        }
    }

    /// Reads conditions that are joined by `AND` or by `OR`. The two don't mix without parentheses: where the other one
    /// follows, nothing takes it.
    fn condition(&mut self) -> Result<Condition<Name>, Fault> {
        let mut all = vec![self.single()?];
        while self.takes_word("and") {
            all.push(self.single()?);
        }
        if all.len() > 1 {
            return Ok(Condition::All(all));
        }
        while self.takes_word("or") {
            all.push(self.single()?);
        }
        Ok(if all.len() > 1 { Condition::Any(all) } else { all.remove(0) })
    }

    fn single(&mut self) -> Result<Condition<Name>, Fault> {
        if self.takes_word("not") {
            return Ok(Condition::Not(Box::new(self.single()?)));
        }
        if self.takes_sign("(") {
            let inner = self.condition()?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        let field = self.name()?;
        if self.takes_word("not") {
            self.expect_word("in")?;
            let values = self.values()?;
            return Ok(Condition::Not(Box::new(Condition::In(field, values))));
        }
        if self.takes_word("in") {
            return Ok(Condition::In(field, self.values()?));
        }
        let operator = self.operator()?;
        Ok(Condition::Compare(field, operator, self.literal()?))
    }

    fn operator(&mut self) -> Result<Operator, Fault> {
        if self.takes_word("like") {
            return Ok(Operator::Like);
        }
        let signs = [
            ("=", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        signs
            .into_iter()
            .find(|(sign, _)| self.takes_sign(sign))
            .map(|(_, found)| found)
            .ok_or_else(|| self.unexpected())
    }

    fn values(&mut self) -> Result<Vec<Literal>, Fault> {
        self.expect_sign("(")?;
        let mut values = vec![self.literal()?];
        while self.takes_sign(",") {
            values.push(self.literal()?);
        }
        self.expect_sign(")")?;
        Ok(values)
    }

    fn literal(&mut self) -> Result<Literal, Fault> {
        let fault = self.unexpected();
        match self.take().0 {
            Token::Text(text) => Ok(Literal::Text(text)),
            Token::Word(word) => match word.to_lowercase().as_str() {
                "true" => Ok(Literal::Flag(true)),
                "false" => Ok(Literal::Flag(false)),
                "null" => Ok(Literal::Null),
                _ => Err(fault),
            },
            Token::Bare(bare) => bare_literal(&bare).ok_or(fault),
            Token::Sign(_) | Token::End => Err(fault),
        }
    }
}

fn bare_literal(bare: &str) -> Option<Literal> {
    if bare.contains('T') {
        return bare.parse::<Timestamp>().ok().map(|time| Literal::DateTime(date_time(time)));
    }
    if bare.len() == 10 && bare.matches('-').count() == 2 {
        return bare.parse::<jiff::civil::Date>().ok().map(|date| Literal::Date(date.to_string()));
    }
    bare.parse().ok().map(Literal::Number)
}
