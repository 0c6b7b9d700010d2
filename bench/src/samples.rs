//! The data that the benchmark sends: webhooks as TextUs posts them, each with its own id, and events of distinct
//! people.

use std::ops::Range;

use anyhow::Context as _;
use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::time::Timestamp;
use hookline_sandbox::samples::{SampleFacts, sample};

pub(crate) const SOURCE: &str = "textus";

/// Digits of the serial number in a webhook's id.
pub(crate) const SERIAL_DIGITS: usize = 16;

/// A webhook body with room for a serial number in its id.
#[derive(Clone)]
pub(crate) struct Template {
    body: Vec<u8>,
    serial_at: usize,
}

impl Template {
    pub(crate) fn new(event_type: &str) -> anyhow::Result<Self> {
        let room = "#".repeat(SERIAL_DIGITS);
        let mut body = sample(event_type, &SampleFacts::random("acme"));
        body["id"] = format!("/integrations/Lp4Xv9/deliveries/{room}").into();
        let body = body.to_string();
        let serial_at = body.find(&room).context("a sample has an id")?;
        Ok(Self { body: body.into_bytes(), serial_at })
    }

    /// Returns the body with this serial number; the same number gives the same body.
    pub(crate) fn body(&self, serial: u64) -> Vec<u8> {
        let mut body = self.body.clone();
        let digits = format!("{serial:0width$x}", width = SERIAL_DIGITS);
        body[self.serial_at..self.serial_at + SERIAL_DIGITS].copy_from_slice(digits.as_bytes());
        body
    }
}

/// Returns a name that no earlier measurement used, because effects that are done for an account would be skipped.
pub(crate) fn new_account() -> String {
    format!("bench-{:016x}", rand::random::<u64>())
}

/// Returns an event of this type for each of these people, as ingest would have stored it. The payload names the
/// contact, so no look-up is necessary.
pub(crate) fn events(event_type: &str, account: &str, people: Range<usize>) -> anyhow::Result<Vec<Event>> {
    let these = phones().skip(people.start).take(people.len());
    let event = |phone: String| {
        let facts = SampleFacts { phone, embed_contact: true, ..SampleFacts::random(account) };
        event(event_type, sample(event_type, &facts).to_string())
    };
    let events: Vec<Event> = these.map(event).collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(events.len() == people.len(), "there are {} fictional phone numbers only", phones().count());
    Ok(events)
}

/// Returns a webhook as ingest would have stored it.
pub(crate) fn event(event_type: &str, body: String) -> anyhow::Result<Event> {
    let source = SourceName::new(SOURCE).context("a source's name")?;
    let read: serde_json::Value = serde_json::from_str(&body).context("reading a sample")?;
    let source_event_id = read["id"].as_str().map(str::to_owned);
    let body = Bytes::from(body);
    Ok(Event {
        id: EventId::derive(&source, source_event_id.as_deref(), &body),
        source,
        source_event_id,
        event_type: EventType::new(event_type),
        received_at: Timestamp::now(),
        content_type: Some("application/json".to_owned()),
        request_id: None,
        traceparent: None,
        body,
    })
}

/// Returns distinct numbers that belong to nobody: 555-01xx is reserved for fiction in every area code.
fn phones() -> impl Iterator<Item = String> {
    let areas = (200..1000).filter(|area| area / 10 % 10 != 9 && area % 100 != 11);
    areas.flat_map(|area| (0..100).map(move |line| format!("+1{area}55501{line:02}")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_serial_number_makes_another_json_body_of_the_same_length() {
        for event_type in ["message.failed", "message.received", "contact.opted_out"] {
            let template = Template::new(event_type).unwrap();

            let (first, second) = (template.body(1), template.body(u64::MAX));

            assert_ne!(first, second);
            assert_eq!(first.len(), second.len());
            let json: serde_json::Value = serde_json::from_slice(&second).unwrap();
            assert!(json["id"].as_str().is_some_and(|id| id.ends_with("/ffffffffffffffff")), "{json}");
        }
    }

    #[test]
    fn there_are_enough_people_for_the_largest_measurement() {
        let people: HashSet<String> = phones().take(crate::worker::MOST_EVENTS).collect();

        assert_eq!(people.len(), crate::worker::MOST_EVENTS);
    }

    #[test]
    fn events_are_distinct_and_of_distinct_people() {
        let events = events("contact.opted_out", "acme", 200..500).unwrap();

        let ids: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids.len(), 300);
        let expected: Vec<String> = phones().skip(200).take(300).collect();
        for (event, phone) in events.iter().zip(&expected) {
            let body = String::from_utf8_lossy(&event.body);
            assert!(body.contains(phone.as_str()), "{phone}: {body}");
        }
    }
}
