//! The Opt Outs API: which form of a number its path takes, and what its answers prove
//! (<https://apidocs.next.textus.com/docs/opt_outs/update>, <https://apidocs.next.textus.com/docs/opt_outs/show>).
//!
//! TextUs documents ten bare digits, and nothing for numbers outside the North American plan. Ten bare digits of such a
//! number would be another person's number, so we never send them, and in an answer they prove nothing.

use std::fmt;

use hookline_common::names::Operation;
use hookline_common::phone::{Phone, reads_as_plus_one};
use percent_encoding::percent_decode_str;
use reqwest::Method;
use serde::Deserialize;

use super::client::TextUs;
use super::links::text;
use super::paths::Path;
use crate::calls::http::Answer;
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::segment::Segment;

/// A number in the forms that this API may take.
#[derive(Clone, Copy)]
pub struct OptOutNumber<'a> {
    pub phone: &'a Phone,
    /// The last segment of the `optOut.id` that named the number, if there is one. It is the vendor's own form.
    pub in_id: Option<&'a Segment>,
}

impl fmt::Debug for OptOutNumber<'_> {
    /// Shows the masked phone only, because the number in the id is in clear.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phone.fmt(f)
    }
}

impl<'a> From<&'a Phone> for OptOutNumber<'a> {
    fn from(phone: &'a Phone) -> Self {
        Self { phone, in_id: None }
    }
}

/// A PUT that was answered 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutAnswered {
    pub status: u16,
    pub shows: Shows,
}

/// What an answer shows about an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Proof: the opt-out of this number or, after a PUT, no body at all.
    This,
    /// Only ten digits, for a number outside the North American plan. They are another person's number as well.
    TenDigits,
    /// Something else: a page, another resource, another number, half a body.
    SomethingElse,
    /// The opt-out isn't there.
    Nothing,
}

impl TextUs {
    /// `PUT /{account}/opt_outs/{number}`. Returns 409 and 422 as `Rejected`.
    pub async fn put_opt_out<'a>(
        &self,
        log: &CallLog,
        account: &str,
        number: impl Into<OptOutNumber<'a>>,
    ) -> Result<PutAnswered, DestinationError> {
        let number = number.into();
        let mut answered = Err(DestinationError::NotFound { detail: String::new() });
        for form in number.forms() {
            let path = Path::of_account(account)?.word("opt_outs").phone(&form, number.phone);
            answered = self.write(log, Operation::PutOptOut, Method::PUT, &path).await;
            // The account doesn't know this form of the number, but may know the next.
            if !matches!(answered, Err(DestinationError::NotFound { .. })) {
                break;
            }
        }
        let answer = answered?;
        Ok(PutAnswered { status: answer.status, shows: shown_by_put(answer, number.phone) })
    }

    /// `GET /{account}/opt_outs/{number}`.
    pub async fn get_opt_out<'a>(
        &self,
        log: &CallLog,
        account: &str,
        number: impl Into<OptOutNumber<'a>>,
    ) -> Result<Shows, DestinationError> {
        let number = number.into();
        let mut shows = Shows::Nothing;
        for form in number.forms() {
            let path = Path::of_account(account)?.word("opt_outs").phone(&form, number.phone);
            shows = match self.get(log, Operation::GetOptOut, &path).await {
                // An unreadable body is an error here: asking again costs nothing.
                Ok(answer) => answer.object::<OptOut>()?.shows(number.phone),
                Err(DestinationError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            break;
        }
        Ok(shows)
    }
}

impl OptOutNumber<'_> {
    /// Returns the forms that the path may take, the likeliest first. A +1 number has one: ten bare digits. Any other
    /// number has the vendor's own form, unless that reads as a +1 number, and E.164. TextUs documents neither of these
    /// two.
    fn forms(self) -> Vec<String> {
        let Self { phone, in_id } = self;
        if let Some(ten) = phone.plus_one() {
            return vec![ten.to_owned()];
        }
        let e164 = phone.as_e164().to_owned();
        let usable = |own: &String| {
            Segment::new(own).is_some()
                && digits_of(own) == phone.digits()
                && *own != e164
                && (own.starts_with('+') || !reads_as_plus_one(phone.digits()))
        };
        let own = in_id.map(|own| percent_decode_str(own.as_str()).decode_utf8_lossy().into_owned()).filter(usable);
        own.into_iter().chain([e164]).collect()
    }
}

fn shown_by_put(answer: Answer, phone: &Phone) -> Shows {
    if answer.is_empty() {
        return Shows::This;
    }
    answer.object::<OptOut>().map_or(Shows::SomethingElse, |opt_out| opt_out.shows(phone))
}

/// An opt-out as the API answers it. Its `id` ends in the number, or is opaque. Unlike a webhook, an answer has no
/// `phoneNumber`, but we read one if it is there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptOut {
    #[serde(rename = "@type", default, deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    formatted_phone_number: Option<String>,
    #[serde(default, deserialize_with = "text")]
    phone_number: Option<String>,
}

impl OptOut {
    fn shows(&self, phone: &Phone) -> Shows {
        // Other resources hold numbers too.
        if self.kind.as_deref().is_some_and(|kind| kind != "OptOut") {
            return Shows::SomethingElse;
        }
        let in_id = self.id.as_deref().and_then(|id| id.rsplit('/').next());
        let named: Vec<Names> = [in_id, self.formatted_phone_number.as_deref(), self.phone_number.as_deref()]
            .into_iter()
            .flatten()
            .map(|text| Names::read(&percent_decode_str(text).decode_utf8_lossy(), phone))
            .collect();
        if named.contains(&Names::Another) {
            Shows::SomethingElse
        } else if named.contains(&Names::This) {
            Shows::This
        } else if named.contains(&Names::TenDigits) {
            Shows::TenDigits
        } else {
            Shows::SomethingElse
        }
    }
}

/// Which number a field of an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    This,
    Another,
    /// The last ten digits of this number, which is outside the plan. They may also be a +1 number.
    TenDigits,
    /// No number, or one in a form that can't be compared.
    Unclear,
}

impl Names {
    fn read(text: &str, phone: &Phone) -> Self {
        if text.chars().any(char::is_alphabetic) {
            return Self::Unclear;
        }
        let digits = digits_of(text);
        let is_this = digits == phone.digits();
        match (text.contains('+'), phone.plus_one()) {
            (true, _) if is_this => Self::This,
            (true, _) => Self::Another,
            (false, Some(ten)) if is_this || digits == ten => Self::This,
            (false, Some(_)) if reads_as_plus_one(&digits) => Self::Another,
            (false, None) if reads_as_plus_one(&digits) => {
                // Any other ten digits are surely another person's, and say nothing about this number.
                let may_be_this = phone.digits().ends_with(&digits[digits.len() - 10..]);
                if may_be_this { Self::TenDigits } else { Self::Another }
            }
            (false, None) if is_this => Self::This,
            (false, _) => Self::Unclear,
        }
    }
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn phone(text: &str) -> Phone {
        Phone::parse(text).expect("a number")
    }

    #[test]
    fn no_number_from_abroad_is_asked_about_as_a_plus_one_number() {
        for (number, in_id, forms) in [
            ("+12025550147", None, vec!["2025550147"]),
            ("+16561234567", Some("6561234567"), vec!["6561234567"]),
            ("+12025550147", Some("+12025550147"), vec!["2025550147"]),
            ("+6561234567", None, vec!["+6561234567"]),
            ("+6561234567", Some("6561234567"), vec!["+6561234567"]),
            ("+6561234567", Some("(656) 123-4567"), vec!["+6561234567"]),
            ("+6561234567", Some("+6561234567"), vec!["+6561234567"]),
            ("+6561234567", Some("%2B6561234567"), vec!["+6561234567"]),
            ("+6561234567", Some("+65-6123-4567"), vec!["+65-6123-4567", "+6561234567"]),
            ("+442079460958", Some("442079460958"), vec!["442079460958", "+442079460958"]),
            ("+442079460958", Some("2079460958"), vec!["+442079460958"]),
            ("+442079460958", Some("Ab3d9"), vec!["+442079460958"]),
            ("+4520123456", Some("4520123456"), vec!["+4520123456"]),
        ] {
            let in_id = in_id.map(|text| Segment::new(text).expect("a segment"));
            let number = OptOutNumber { phone: &phone(number), in_id: in_id.as_ref() };
            assert_eq!(number.forms(), forms, "{} {in_id:?}", number.phone.as_e164());
        }
    }

    #[test]
    fn an_answer_proves_the_opt_out_that_it_names() {
        let answer =
            |id: &str, formatted: Value| json!({"@type": "OptOut", "id": id, "formattedPhoneNumber": formatted});
        for (number, body, shows) in [
            ("+12025550147", answer("/acme/opt_outs/2025550147", json!("(202) 555-0147")), Shows::This),
            ("+12025550147", answer("/acme/opt_outs/+12025550147", json!("2025550147")), Shows::This),
            ("+12025550147", answer("/acme/opt_outs/Ab3d9", json!("(202) 555-0147")), Shows::This),
            ("+12025550147", answer("/acme/opt_outs/2025550147", json!(null)), Shows::This),
            ("+12025550147", json!({"formattedPhoneNumber": "1-202-555-0147"}), Shows::This),
            ("+12025550147", answer("/acme/opt_outs/Ab3d9", json!(null)), Shows::SomethingElse),
            ("+12025550147", answer("/acme/opt_outs/2025550148", json!("2025550147")), Shows::SomethingElse),
            ("+12025550147", answer("/acme/opt_outs/Ab3d9", json!("2025550148")), Shows::SomethingElse),
            ("+12025550147", json!({"@type": "ContactPhone", "phoneNumber": "+12025550147"}), Shows::SomethingElse),
            ("+12025550147", json!({"error": "maintenance"}), Shows::SomethingElse),
            ("+16561234567", answer("/acme/opt_outs/+6561234567", json!("6561234567")), Shows::SomethingElse),
            ("+6561234567", answer("/acme/opt_outs/+6561234567", json!("(656) 123-4567")), Shows::This),
            ("+6561234567", answer("/acme/opt_outs/%2B6561234567", json!(null)), Shows::This),
            ("+6561234567", answer("/acme/opt_outs/Ab3d9", json!("+65 6123 4567")), Shows::This),
            ("+6561234567", answer("/acme/opt_outs/6561234567", json!("(656) 123-4567")), Shows::TenDigits),
            ("+6561234567", answer("/acme/opt_outs/Ab3d9", json!("6561234567")), Shows::TenDigits),
            ("+6561234567", answer("/acme/opt_outs/+16561234567", json!("6561234567")), Shows::SomethingElse),
            ("+6561234567", answer("/acme/opt_outs/2025550147", json!("(202) 555-0147")), Shows::SomethingElse),
            ("+442079460958", answer("/acme/opt_outs/Ab3d9", json!("(207) 946-0958")), Shows::TenDigits),
            ("+442079460958", answer("/acme/opt_outs/442079460958", json!("020 7946 0958")), Shows::This),
            ("+442079460958", answer("/acme/opt_outs/442079460959", json!(null)), Shows::SomethingElse),
        ] {
            let opt_out: OptOut = serde_json::from_value(body.clone()).expect("an object");
            assert_eq!(opt_out.shows(&phone(number)), shows, "{number} {body}");
        }
    }
}
