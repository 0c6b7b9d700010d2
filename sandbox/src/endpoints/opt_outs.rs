//! The Opt Outs API. <https://apidocs.next.textus.com/docs/opt_outs/update>

use jiff::Timestamp;

use super::pages;
use crate::answer::Answer;
use crate::ledger::EffectKind;
use crate::phone;
use crate::state::{Call, State};
use crate::{shapes, webhooks};

/// A repeat is answered and echoed like the first: nobody documents otherwise, and it is the worst case.
pub(super) fn put(state: &mut State, call: &Call<'_>) -> Answer {
    let phone = match phone_in_path(call) {
        Ok(phone) => phone,
        Err(refusal) => return refusal,
    };
    let opt_out = state.world.opt_out_now(call.account(), &phone).clone();
    state.record_effect(call, call.account(), EffectKind::OptOutPut, phone);
    state.echo(|| webhooks::opt_out("contact.opted_out", "opt-out", &opt_out, Timestamp::now()));
    Answer::resource(201, shapes::opt_out_written(&opt_out))
}

pub(super) fn get(state: &State, call: &Call<'_>) -> Answer {
    match phone_in_path(call) {
        Ok(phone) => state
            .world
            .opt_out(call.account(), &phone)
            .map_or_else(Answer::absent, |opt_out| Answer::resource(200, shapes::opt_out_read(opt_out))),
        Err(refusal) => refusal,
    }
}

/// `q` is a part of a number, of at least three digits; `exact[]`, any number of times, a whole one.
pub(super) fn list(state: &State, call: &Call<'_>) -> Answer {
    let part = call.query("q");
    if part.is_some_and(|part| part.len() < 3 || !phone::is_digits(part)) {
        return Answer::invalid("q must be at least 3 digits");
    }
    let exact: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "exact[]").map(|(_, value)| value.as_str()).collect();
    let members = state
        .world
        .opt_outs_of(call.account())
        .filter(|opt_out| part.is_none_or(|part| opt_out.phone.contains(part)))
        .filter(|opt_out| exact.is_empty() || exact.contains(&phone::bare_digits(&opt_out.phone)))
        .map(shapes::opt_out_read)
        .collect();
    pages::page(state, call, members)
}

/// Ten bare digits in the path, as E.164.
fn phone_in_path(call: &Call<'_>) -> Result<String, Answer> {
    if phone::is_ten_digits(&call.route.raw_parameter) {
        Ok(format!("+1{}", call.route.parameter))
    } else {
        Err(Answer::improper(422, "a phone number in this path is ten digits"))
    }
}
