//! The bytes of an event as its plan means it.

use hookline_sandbox::SampleFacts;
use hookline_sandbox::samples::sample;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Ms;
use crate::plan::{Dated, Said, What};

/// As people write them.
const STOP: [&str; 5] = ["STOP", "stop.", " Unsubscribe\n", "Opt  out", "Quit!"];
const START: [&str; 3] = ["START", "yes", "Unstop."];

/// When an event that is sent at `now` says that it happened.
pub(crate) fn stated(dated: Dated, now: Ms) -> Ms {
    match dated {
        Dated::FromNow(millis) => now + millis,
        Dated::In2031 => {
            let end: Timestamp = "2031-12-31T23:59:59Z".parse().expect("a time");
            end.as_millisecond()
        }
    }
}

/// The webhook, with ids that the seed and its place in the plan decide.
pub(crate) fn body(said: &Said, (seed, index): (u64, usize), stated: Ms) -> Value {
    let timestamp = Timestamp::from_millisecond(stated).expect("a time of this century");
    let words = match said.what {
        What::StopWord => STOP[index % STOP.len()],
        What::StartWord => START[index % START.len()],
        What::OptOut
        | What::OptIn
        | What::Text
        | What::ForbiddenText
        | What::Created
        | What::NumberlessOptOut
        | What::Garbage
        | What::Unheard => &said.facts.body,
    };
    let facts = SampleFacts { timestamp, body: words.to_owned(), ..said.facts.clone() };
    let spelling = if index % 3 == 0 { '-' } else { '_' };
    let mut body = sample(&said.what.event_type().replace('_', &spelling.to_string()), &facts);
    body["id"] = json!(format!("/integrations/Lp4Xv9/deliveries/mixed-{seed}-{index}"));
    if body.get("message").is_some() {
        body["message"]["id"] = json!(message_id((seed, index)));
    }
    if body.get("optOut").is_some() {
        body["optOut"]["phoneNumber"] = json!(said.written);
        let id = said.opt_out_id.clone().unwrap_or_else(|| format!("{}", 100_000 + index));
        body["optOut"]["id"] = json!(format!("/{}/opt_outs/{id}", facts.account));
    }
    body
}

/// What is posted: the body, with its blemish.
pub(crate) fn bytes(said: &Said, body: Value) -> Vec<u8> {
    match (said.what, said.blemish) {
        (What::Garbage, which) => garbage(&body, which.unwrap_or_default()),
        (_, None) => body.to_string().into_bytes(),
        (_, Some(which)) => blemished(body, which),
    }
}

/// No event: no JSON, no object, no action.
fn garbage(body: &Value, which: usize) -> Vec<u8> {
    let text = body.to_string();
    match which % 4 {
        0 => text.as_bytes()[..text.len() - 9].to_vec(),
        1 => format!("{text} and more").into_bytes(),
        2 => json!([body]).to_string().into_bytes(),
        _ => json!({ "action": 5, "body": body }).to_string().into_bytes(),
    }
}

/// Something that a strict reader refuses, or of another type than documented, where nothing is needed.
fn blemished(mut body: Value, which: usize) -> Vec<u8> {
    let members: [&[u8]; 5] =
        [b"\"See you \\ud83d\"", b"\"\\u0000\"", b"\"\xff\xfe\n\"", b"-1e999", b"{\"\\ud800\":\"\\udfff\"}"];
    match which % 8 {
        which if which < members.len() => {
            let text = body.to_string();
            [b"{\"note\":", members[which], b",", &text.as_bytes()[1..]].concat()
        }
        5 => [b"\xef\xbb\xbf", body.to_string().as_bytes()].concat(),
        6 if body.get("optOut").is_some() => {
            // As the API names it, and an id that says nothing.
            let account = body["optOut"]["account"].take();
            body["optOut"]["originatingAccount"] = account;
            body["optOut"]["id"] = json!("oo_8f3a2c");
            body.to_string().into_bytes()
        }
        _ => {
            for (part, field) in [("optOut", "createdAt"), ("message", "attachments"), ("contact", "data")] {
                if body.get(part).is_some() {
                    body[part][field] = json!(7);
                }
            }
            body.to_string().into_bytes()
        }
    }
}

pub(crate) fn message_id((seed, index): (u64, usize)) -> String {
    format!("/messages/m{seed}x{index}")
}

impl What {
    pub(crate) fn event_type(self) -> &'static str {
        match self {
            Self::OptOut | Self::NumberlessOptOut => "contact.opted_out",
            Self::OptIn => "contact.opted_in",
            Self::Text | Self::StopWord | Self::StartWord | Self::ForbiddenText => "message.received",
            Self::Created => "contact.created",
            Self::Garbage => "unparsed",
            Self::Unheard => "deal.won",
        }
    }
}
