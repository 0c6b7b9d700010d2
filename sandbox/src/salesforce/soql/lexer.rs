//! Splits a statement into words, texts, numbers and signs.

use super::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name, with dots, or a keyword.
    Word(String),
    /// What stood in quotes, without its escapes.
    Text(String),
    /// A number, a date or a time, as it was written.
    Bare(String),
    Sign(&'static str),
    End,
}

/// The longer signs come first.
const SIGNS: [&str; 10] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];

pub(crate) fn tokens(statement: &str, start: usize) -> Result<Vec<(Token, usize)>, Fault> {
    let mut found = Vec::new();
    let mut at = start;
    while let Some(first) = statement.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = &statement[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if first == '\'' {
            let (text, length) = quoted(rest, at)?;
            found.push((Token::Text(text), at));
            at += length;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = length_of(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            found.push((Token::Word(rest[..length].to_owned()), at));
            at += length;
        } else if first.is_ascii_digit() || "+-".contains(first) {
            let length = length_of(rest, |c| c.is_ascii_alphanumeric() || "+-.:".contains(c));
            found.push((Token::Bare(rest[..length].to_owned()), at));
            at += length;
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            found.push((Token::Sign(if sign == "<>" { "!=" } else { sign }), at));
            at += sign.len();
        } else {
            return Err(Fault::malformed(at, format!("line 1:{at} no viable alternative at character '{first}'")));
        }
    }
    found.push((Token::End, statement.len()));
    Ok(found)
}

fn length_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Reads a text in quotes, and returns it with the length that it takes in the statement. `%` and `_` keep their
/// escapes, because only `LIKE` knows what they mean.
fn quoted(rest: &str, at: usize) -> Result<(String, usize), Fault> {
    let illegal = || Fault::malformed(at, "Illegal character sequence in string literal");
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '\'' => return Ok((text, index + 1)),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n' | 'N') => text.push('\n'),
                Some('r' | 'R') => text.push('\r'),
                Some('t' | 'T') => text.push('\t'),
                Some('b' | 'B') => text.push('\u{8}'),
                Some('f' | 'F') => text.push('\u{c}'),
                Some(escaped @ ('\'' | '"')) => text.push(escaped),
                Some('\\') => text.push_str("\\\\"),
                Some(escaped @ ('%' | '_')) => {
                    text.push('\\');
                    text.push(escaped);
                }
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                    text.push(code.and_then(char::from_u32).ok_or_else(illegal)?);
                }
                Some(_) | None => return Err(illegal()),
            },
            // A line break in a text is refused as well.
            '\n' | '\r' => return Err(Fault::malformed(at + index, "unexpected line break in string literal")),
            c => text.push(c),
        }
    }
    Err(Fault::malformed(at, "unexpected token: '''"))
}

/// Removes the escapes that [`tokens`] has left for `LIKE`.
pub(crate) fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}
