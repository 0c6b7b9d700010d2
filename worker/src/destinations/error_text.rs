//! Finds what a destination says about an error, wherever in the body it says it. TextUs documents no error body for
//! the current API. The retired one sent `{"error": "…"}`, and JSON-LD services send `hydra:description`.

use serde_json::Value;

use super::redact::redact_private;

/// Keys that hold a message; the first one present wins.
const KEYS: &[&str] = &["error", "message", "hydra:description", "hydra:title", "detail", "errors"];
/// Longest message returned; a longer text is a page.
const MAX_CHARS: usize = 300;
/// The key of the id by which the vendor's support finds a failed call, as HubSpot sends it.
const CORRELATION_ID: &str = "correlationId";
const MAX_CORRELATION_CHARS: usize = 64;
/// What stands before that id in a detail.
const CORRELATED: &str = " (correlationId ";
/// Deepest nesting searched; anything deeper isn't a message.
const MAX_DEPTH: usize = 6;

/// Returns the destination's own words, redacted, at most 300 characters; empty if it said nothing readable.
pub(crate) fn find(body: &[u8], private: &[String]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut correlation_id = None;
    let said = match serde_json::from_str::<Value>(&text) {
        Ok(value) => {
            correlation_id = value[CORRELATION_ID].as_str().filter(|id| is_id(id)).map(str::to_owned);
            in_value(&value, 0).unwrap_or_default()
        }
        // A page of HTML comes from an intermediary and says nothing beyond the status.
        Err(_) if text.trim_start().starts_with(['<', '{', '[']) => String::new(),
        Err(_) => text.into_owned(),
    };
    // Cut generously first, to avoid redacting a megabyte to show one line.
    let start: String = said.chars().take(MAX_CHARS * 4).collect();
    let said: String = redact_private(&start, private).chars().take(MAX_CHARS).collect();
    match correlation_id {
        Some(id) => format!("{said}{CORRELATED}{id})"),
        None => said,
    }
}

/// Masks these texts in what [`find`] returned, and keeps its correlation id.
pub(crate) fn masked(detail: &str, private: &[String]) -> String {
    let split = detail.strip_suffix(')').and_then(|detail| detail.rsplit_once(CORRELATED));
    match split.filter(|(_, id)| is_id(id)) {
        Some((said, id)) => format!("{}{CORRELATED}{id})", redact_private(said, private)),
        None => redact_private(detail, private),
    }
}

/// Whether a text is a random id, so that it cannot be a telephone number.
fn is_id(text: &str) -> bool {
    let is_short = (1..=MAX_CORRELATION_CHARS).contains(&text.len());
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let is_uuid = groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    is_short
        && (is_uuid || (text.bytes().all(|byte| byte.is_ascii_alphanumeric()) && redact_private(text, &[]) == text))
}

fn in_value(value: &Value, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().filter_map(|item| in_value(item, depth + 1)).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(fields) => {
            KEYS.iter().find_map(|key| fields.get(*key).and_then(|value| in_value(value, depth + 1))).or_else(|| {
                // `{"errors": {"phones": ["has already been taken"]}}`: below a known key, any field may hold the
                // message.
                let named = |(name, value): (&String, &Value)| {
                    let told = matches!(value, Value::Array(_)).then(|| in_value(value, depth + 1)).flatten()?;
                    Some(format!("{name} {told}"))
                };
                let all: Vec<String> = fields.iter().filter(|_| depth > 0).filter_map(named).collect();
                (!all.is_empty()).then(|| all.join("; "))
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_wherever_it_is() {
        for (body, said) in [
            (r#"{"error":"Validation failed"}"#, "Validation failed"),
            (r#"{"error":{"code":7,"message":"nope"}}"#, "nope"),
            (r#"{"error":"","message":"second"}"#, "second"),
            (r#"{"error":null,"message":["a","b"]}"#, "a; b"),
            (r#"{"@type":"hydra:Error","hydra:title":"T","hydra:description":"D"}"#, "D"),
            (r#"{"hydra:title":"T"}"#, "T"),
            (r#"{"detail":[{"detail":"x"},{"message":"y"}]}"#, "x; y"),
            (r#"{"errors":{"phones":["has already been taken"]}}"#, "phones has already been taken"),
            (r#"["one","two"]"#, "one; two"),
            ("Too Many Requests", "Too Many Requests"),
            ("<html><body>502</body></html>", ""),
            (r#"{"error":"cut of"#, ""),
            (r#"{"name":"Marisol","tags":["welder"]}"#, ""),
            ("42", ""),
            ("", ""),
        ] {
            assert_eq!(find(body.as_bytes(), &[]), said, "{body}");
        }
    }

    #[test]
    fn the_id_for_the_vendors_support_stays() {
        let id = "a43683b0-5717-4ceb-80b4-104d02915d8c";
        let body = format!(r#"{{"message":"no Ada +15550001234","correlationId":"{id}"}}"#);

        let said = masked(&find(body.as_bytes(), &[]), &["Ada".to_owned()]);

        assert_eq!(said, format!("no […] [number] (correlationId {id})"));
        let number = r#"{"message":"no","correlationId":"15550001234"}"#;
        assert_eq!(find(number.as_bytes(), &[]), "no");
    }

    #[test]
    fn the_message_is_redacted_and_short() {
        let body = format!(r#"{{"error":"+15550001234 {}"}}"#, "é".repeat(5000));

        let said = find(body.as_bytes(), &[]);

        assert!(said.starts_with("[number] é"), "{said}");
        assert_eq!(said.chars().count(), 300);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        for body in [&[0xff, 0xfe, 0x00][..], deep.as_bytes()] {
            let _ = find(body, &[]);
        }
    }
}
