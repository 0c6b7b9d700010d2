//! Reads JSON that a strict reader refuses because of details that nobody needs: a text that was cut within an emoji,
//! bytes that are not UTF-8, a number that is too large. We mend only what we read; the sender's bytes stay unchanged.

use serde_json::Value;

const REPLACEMENT: &str = "\\ufffd";

/// Reads the whole body as a tree; `None` if it is not JSON even after mending.
#[must_use]
pub fn read(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| serde_json::from_str(&mended(body)).ok())
}

/// The body with invalid characters replaced by U+FFFD and too large numbers by `null`, with control characters
/// escaped, and without a byte order mark. Other errors stay in the text.
#[must_use]
pub fn mended(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut mending = Mending { rest: text, out: String::with_capacity(text.len()) };
    while mending.next() {}
    mending.out
}

struct Mending<'a> {
    rest: &'a str,
    out: String,
}

impl<'a> Mending<'a> {
    /// Takes the next token; `false` at the end.
    fn next(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        match first {
            '"' => self.string(),
            '-' | '0'..='9' => self.number(),
            _ => {
                let taken = self.take(first.len_utf8());
                self.out.push_str(taken);
            }
        }
        true
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn string(&mut self) {
        let opening = self.take(1);
        self.out.push_str(opening);
        while let Some(c) = self.rest.chars().next() {
            match c {
                '"' => {
                    let closing = self.take(1);
                    return self.out.push_str(closing);
                }
                '\\' => self.escape(),
                c if c < ' ' => {
                    self.take(1);
                    self.out.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => {
                    self.take(c.len_utf8());
                    self.out.push(c);
                }
            }
        }
    }

    fn escape(&mut self) {
        let Some(unit) = code_unit(self.rest) else {
            // This is `\"`, `\\` or the like, or an invalid escape, which we leave invalid.
            let escaped = self.rest.chars().nth(1).map_or(1, |c| 1 + c.len_utf8());
            let taken = self.take(escaped);
            return self.out.push_str(taken);
        };
        let written = self.take(6);
        match unit {
            0xd800..=0xdbff if matches!(code_unit(self.rest), Some(0xdc00..=0xdfff)) => {
                let second = self.take(6);
                self.out.push_str(written);
                self.out.push_str(second);
            }
            0xd800..=0xdfff => self.out.push_str(REPLACEMENT),
            _ => self.out.push_str(written),
        }
    }

    fn number(&mut self) {
        let is_part = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let number = self.take(end);
        let too_large = number.parse::<f64>().is_ok_and(f64::is_infinite);
        self.out.push_str(if too_large { "null" } else { number });
    }
}

/// The code unit of a `\uXXXX` at the start.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_needs_is_mended() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let cases: Vec<(Vec<u8>, Option<Value>)> = vec![
            (br#"{"a":"See you \ud83d"}"#.to_vec(), Some(json!({"a": "See you \u{fffd}"}))),
            (br#"{"a":"\ude00\ud83d\ude00 \uD83Dx"}"#.to_vec(), Some(json!({"a": "\u{fffd}\u{1f600} \u{fffd}x"}))),
            (br#"{"\ud800":1,"a\\ud800":"\\ud800"}"#.to_vec(), Some(json!({"\u{fffd}": 1, "a\\ud800": "\\ud800"}))),
            (b"{\"a\":\"\xff\xc3\"}".to_vec(), Some(json!({"a": "\u{fffd}\u{fffd}"}))),
            (b"\xef\xbb\xbf {\"a\":1}".to_vec(), Some(json!({"a": 1}))),
            (b"{\"a\":\"x\ny\x00\"}".to_vec(), Some(json!({"a": "x\ny\0"}))),
            (br#"{"a":1e999,"b":-1E+400,"c":2}"#.to_vec(), Some(json!({"a": null, "b": null, "c": 2}))),
            (deep.into_bytes(), None),
            (br#"{"a":"\ud83d""#.to_vec(), None),
            (br#"{"a":"\ud83d",}"#.to_vec(), None),
            (br#"{"a":"\ud8"}"#.to_vec(), None),
            (br#"{"a":"\x"}"#.to_vec(), None),
            (b"".to_vec(), None),
            (b"hello".to_vec(), None),
        ];
        for (body, expected) in cases {
            let shown = String::from_utf8_lossy(&body).chars().take(60).collect::<String>();
            assert_eq!(read(&body), expected, "{shown}");
        }
    }

    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b" ",
            b"null",
            b"-0",
            b"1e999",
            b"\"id\"",
            b"\"x\\\"\"",
            b"\"\\u0041\"",
            b"\"\\ud83d\"",
            b"\"\xc3\"",
            b"\"",
            b"\\",
            b"{\"a\":",
            b"\"b\"}",
        ];
        prop::collection::vec(prop::sample::select(PIECES), 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_json_is_left_as_it_is(body in nearly_json()) {
            if let Ok(strict) = serde_json::from_slice::<Value>(&body) {
                prop_assert_eq!(serde_json::from_str::<Value>(&mended(&body)).ok(), Some(strict));
            }
            prop_assert_eq!(mended(mended(&body).as_bytes()), mended(&body));
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&body);
        }
    }
}
