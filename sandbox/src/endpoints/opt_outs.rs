//! The Opt Outs API. <https://apidocs.next.textus.com/docs/opt_outs/update>

use super::pages;
use crate::answer::Answer;
use crate::ledger::EffectKind;
use crate::model::OptOut;
use crate::phone;
use crate::state::{Call, State};
use crate::{shapes, webhooks};

/// Opts a number out. A repeat is answered and echoed like the first call: the vendor documents nothing else, and this
/// is the worst case.
pub(super) fn put(state: &mut State, call: &Call<'_>) -> Answer {
    let Some(phone) = phone::in_opt_out_path(&call.route) else { return no_number(call) };
    let opt_out = state.world.opt_out_now(call.account(), &phone, &call.route.parameter).clone();
    state.record_effect(call, call.account(), EffectKind::OptOutPut, phone);
    let at = state.now();
    state.echo("contact.opted_out", || webhooks::opt_out("contact.opted_out", "opt-out", &opt_out, at));
    Answer::resource(201, shapes::opt_out_written(&opt_out))
}

pub(super) fn get(state: &State, call: &Call<'_>) -> Answer {
    let Some(phone) = phone::in_opt_out_path(&call.route) else { return no_number(call) };
    match state.world.opt_out(call.account(), &phone) {
        Some(known) => {
            let asked = OptOut { slug: call.route.parameter.clone(), ..known.clone() };
            Answer::resource(200, shapes::opt_out_read(&asked))
        }
        None => Answer::absent(),
    }
}

/// Lists opt-outs. `q` is part of a number, of at least three digits; `exact[]` is a whole number and may be repeated.
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

/// Answers a path that contains no phone number. Bare digits are no violation, because the vendor doesn't document the
/// form of a foreign number.
fn no_number(call: &Call<'_>) -> Answer {
    if phone::is_digits(&call.route.raw_parameter) {
        Answer::absent()
    } else {
        Answer::improper(404, "a phone number in this path is digits, or %2B and digits")
    }
}
