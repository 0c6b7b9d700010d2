//! Removes from a destination's own words what must not reach logs, errors or dead letters: telephone numbers, e-mail
//! addresses, and texts of ours that the destination repeats.

use serde_json::Value;

/// Fewest digits that count as a telephone number. Shorter runs are statuses, sizes and years.
const MIN_NUMBER_DIGITS: usize = 7;
/// Shortest word of our texts that is masked. Shorter ones ("of", "Al") would blank out ordinary sentences.
const MIN_WORD_CHARS: usize = 3;

/// Keys of TextUs's resources whose values hold names and texts of people; `data` belongs to the customer.
const PERSONAL_KEYS: [&str; 5] = ["name", "firstName", "lastName", "body", "data"];

/// Implements `Debug` that shows only an id: TextUs's ids may appear in logs, what they stand for may not.
macro_rules! debug_by_id {
    ($($type:ident . $id:ident),+ $(,)?) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).field("id", &self.$id).finish_non_exhaustive()
            }
        })+
    };
}

pub(crate) use debug_by_id;

/// Masks runs of seven or more digits (also with telephone punctuation between them), e-mail addresses and webhook
/// secrets, and joins the text into one line.
#[must_use]
pub fn redact(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(mask_email).collect();
    mask_secrets(&mask_numbers(&words.join(" ")))
}

/// Does the same as [`redact`], and also masks every word of `private` in any case, such as a name or token that we
/// sent.
#[must_use]
pub fn redact_private(text: &str, private: &[String]) -> String {
    let mut words: Vec<&str> = private
        .iter()
        .flat_map(|sent| sent.split_whitespace())
        .filter(|word| word.chars().count() >= MIN_WORD_CHARS)
        .collect();
    // Longest first, so that a word that is part of another doesn't leave the rest of it behind.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let masked = words.iter().fold(text.to_owned(), |text, word| mask_word(&text, word));
    redact(&masked)
}

/// Returns the names and texts of people in a payload's or answer's JSON; empty if it isn't JSON. Numbers and e-mail
/// addresses are recognised by their form, but these texts only by their place.
#[must_use]
pub fn personal_texts(json: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(value) = hookline_common::json::read(json) {
        collect_personal(&value, false, &mut found);
    }
    found
}

fn collect_personal(value: &Value, is_personal: bool, found: &mut Vec<String>) {
    match value {
        Value::String(text) if is_personal => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_personal(item, is_personal, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                collect_personal(value, is_personal || PERSONAL_KEYS.contains(&key.as_str()), found);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts at a character boundary.
#[must_use]
pub fn cut(mut text: String, max_bytes: usize) -> String {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn mask_word(text: &str, word: &str) -> String {
    // Byte offsets in the lower-case copy match the original only if lower-casing kept every length.
    let (lower_text, lower_word) = (text.to_lowercase(), word.to_lowercase());
    if lower_text.len() != text.len() {
        return text.replace(word, "[…]");
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in lower_text.match_indices(&lower_word) {
        let (Some(before), true) = (text.get(from..at), text.is_char_boundary(at + found.len())) else { continue };
        out.push_str(before);
        out.push_str("[…]");
        from = at + found.len();
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

fn mask_email(word: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "@._%+-'".contains(c);
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        let is_email = part.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        out.push_str(if is_email { "[e-mail]" } else { part });
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

/// Masks TextUs's webhook secrets, which have a known prefix
/// (<https://apidocs.next.textus.com/docs/integrations/create>).
fn mask_secrets(text: &str) -> String {
    const BEGINNING: &str = "textus-";
    let mut parts = text.split(BEGINNING);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '[' | ']'));
        out.push_str("[secret]");
        out.push_str(rest);
    }
    out
}

fn mask_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars() {
        let goes_on = c.is_numeric() || c == '+' || (!run.is_empty() && " -.()/%".contains(c));
        if goes_on {
            run.push(c);
        } else {
            end_run(&mut out, &mut run);
            out.push(c);
        }
    }
    end_run(&mut out, &mut run);
    out
}

fn end_run(out: &mut String, run: &mut String) {
    let digits = run.chars().filter(|c| c.is_numeric()).count();
    if digits < MIN_NUMBER_DIGITS {
        out.push_str(run);
    } else {
        let tail = run.trim_end_matches(|c: char| !c.is_numeric()).len();
        out.push_str("[number]");
        out.push_str(&run[tail..]);
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_addresses_are_masked_in_every_usual_form() {
        for (said, told) in [
            ("phone +15550001234 is taken", "phone [number] is taken"),
            ("phone (555) 000-1234, is taken", "phone ([number], is taken"),
            ("1-555-000-1234 and 555.000.1234.", "[number] and [number]."),
            ("no such path /acme/opt_outs/5550001234", "no such path /acme/opt_outs/[number]"),
            ("%2B15550001234", "%2B[number]"),
            ("x15550001234y", "x[number]y"),
            ("<secret-canary@example.com>; a@b", "<[e-mail]>; [e-mail]"),
            ("key 'textus-aB3' and textus-c1-d, twice", "key '[secret]' and [secret], twice"),
            ("status 422 after 3 attempts", "status 422 after 3 attempts"),
            ("line one\r\n\tline two", "line one line two"),
            ("", ""),
        ] {
            assert_eq!(redact(said), told, "{said}");
        }
    }

    #[test]
    fn what_we_sent_is_masked_when_it_comes_back() {
        let private = ["Marisol Ektberg".to_owned(), "tok_abc".to_owned()];

        let told = redact_private("name 'MARISOL ektberg' is refused for tok_abc", &private);

        assert_eq!(told, "name '[…] […]' is refused for […]");
    }

    #[test]
    fn what_is_personal_in_a_payload_is_known_by_where_it_stands() {
        let payload = br#"{"action":"message.received","message":{"body":"see you","direction":"in"},
            "conversation":{"associatedContacts":{"members":[{"name":"Marisol Ektberg","data":{"a":["b"]}}]}}}"#;

        let mut found = personal_texts(payload);

        found.sort();
        assert_eq!(found, ["Marisol Ektberg", "b", "see you"]);
        assert_eq!(personal_texts(b"no JSON"), [""; 0]);
    }

    #[test]
    fn a_cut_text_stays_text() {
        assert_eq!(cut("añb".to_owned(), 2), "a");
        assert_eq!(cut("ab".to_owned(), 9), "ab");
    }

    proptest! {
        #[test]
        fn no_telephone_number_survives(before in "[^0-9]{0,20}", after in "[^0-9]{0,20}") {
            let told = redact(&format!("{before}+15550001234{after}"));
            prop_assert!(!told.contains("5550001234"));
        }

        #[test]
        fn any_text_can_be_redacted(text in "\\PC{0,200}", private in proptest::collection::vec("\\PC{0,12}", 0..3)) {
            let _ = redact_private(&text, &private);
        }
    }
}
