//! Situations beside the others, drawn after all of them: the seeds of before play what they played.

use std::time::Duration;

use hookline_e2e::ACCOUNT;
use hookline_sandbox::{Fault, FaultRule, Method, SampleFacts};
use rand::RngExt as _;

use crate::maker::Maker;
use crate::plan::{Dated, Said, Step, Trouble, What};
use crate::situations::Situation;

/// Each with how many of a hundred plans have it.
pub(crate) const BESIDES: [(&str, Situation, u32); 5] = [
    ("12 stop words", stop_words, 40),
    ("13 erased", erased, 25),
    ("14 several numbers", several_numbers, 25),
    ("15 another world", another_world, 25),
    ("16 hard to read", hard_to_read, 25),
];

/// STOP as a text: alone, with the webhook that TextUs makes of it, and with START before, between or after.
fn stop_words(maker: &mut Maker, at: u64) {
    for _ in 0..3 {
        let facts = if maker.rng.random_bool(0.8) { maker.somebody() } else { maker.somebody_abroad() };
        let after = at + maker.rng.random_range(0..400);
        let now = Dated::FromNow(0);
        match maker.rng.random_range(0..5) {
            0 => drop(maker.say(after, What::StopWord, &facts, now)),
            1 => {
                let (word, event) = (maker.rng.random_range(0..200), maker.rng.random_range(0..200));
                maker.say(after + word, What::StopWord, &facts, now);
                maker.say(after + event, What::OptOut, &facts, now);
            }
            2 => {
                maker.say(after, What::StopWord, &facts, now);
                maker.say(after + 300, What::StartWord, &facts, now);
                // Long after: that START is recorded by then.
                let again = maker.pick(&[What::StopWord, What::OptOut]);
                maker.say(after + 2_000, again, &facts, now);
            }
            3 => {
                maker.say(after, What::StartWord, &facts, now);
                maker.say(after + 200, What::StopWord, &facts, Dated::FromNow(-60_000));
            }
            _ => {
                let word = maker.say(after, What::StopWord, &facts, now);
                maker.say(after + 300, What::OptIn, &facts, now);
                let later = maker.rng.random_range(350..900);
                maker.step(after + later, Step::SendAgain(word));
                maker.step(after + later + 100, Step::Replay(word));
            }
        }
    }
}

/// An operator erases somebody before, between and after what they say, while others write of them.
fn erased(maker: &mut Maker, at: u64) {
    let (facts, other) = (maker.somebody(), maker.somebody());
    let more_phones = if maker.rng.random_bool(0.4) { vec![maker.somebody().phone] } else { Vec::new() };
    let facts = SampleFacts { more_phones, ..facts };
    if maker.rng.random_bool(0.7) {
        // Notes wait, theirs and others'.
        let rule = FaultRule::new(Fault::status(503)).method(Method::GET);
        let trouble = Trouble { rule, holds_puts: false, and_then: Duration::ZERO, is_lasting: false };
        let until = at + maker.rng.random_range(900..1_800);
        maker.trouble_that(at, until, trouble);
    }
    let theirs = maker.created(at + 100, &facts);
    for _ in 0..2 {
        let (text, about) = (maker.rng.random_range(50..1_200), maker.rng.random_range(50..1_200));
        maker.say(at + text, What::Text, &facts, Dated::FromNow(0));
        let body = format!("Please call {} about it.", facts.phone);
        let other = if maker.rng.random_bool(0.5) { maker.somebody() } else { other.clone() };
        maker.say(at + about, What::Text, &SampleFacts { body, ..other }, Dated::FromNow(0));
    }
    for _ in 0..maker.rng.random_range(1..4) {
        let after = maker.rng.random_range(50..1_500);
        let what = maker.pick(&[What::OptOut, What::OptOut, What::StopWord, What::OptIn]);
        maker.say(at + after, what, &facts, Dated::FromNow(0));
    }
    let after = maker.rng.random_range(50..1_500);
    maker.stop(at + after, &other);
    for _ in 0..maker.rng.random_range(1..4) {
        let after = maker.rng.random_range(0..1_700);
        maker.step(at + after, Step::Erase(theirs));
    }
    if maker.rng.random_bool(0.3) {
        let from = maker.rng.random_range(0..600);
        maker.step(at + from, Step::Pause);
        maker.step(at + 1_700, Step::Resume);
    }
    if maker.rng.random_bool(0.4) {
        let after = maker.rng.random_range(0..1_700);
        maker.step(at + after, Step::EraseOurselves(theirs));
    }
}

/// A person has several numbers, and opts out by any of them, before or after their contact is known, or known to have it.
fn several_numbers(maker: &mut Maker, at: u64) {
    for _ in 0..2 {
        let first = maker.somebody();
        let mut phones = vec![first.phone.clone()];
        for _ in 0..maker.rng.random_range(1..3) {
            let another = if maker.rng.random_bool(0.8) { maker.somebody() } else { maker.somebody_abroad() };
            phones.push(another.phone);
        }
        // One account: what another knows of this number is another contact.
        let facts = SampleFacts { account: ACCOUNT.to_owned(), more_phones: phones[1..].to_vec(), ..first };
        let after = maker.rng.random_range(0..800);
        if maker.rng.random_bool(0.3) {
            // The second number is told later.
            maker.created(at + after, &SampleFacts { more_phones: Vec::new(), ..facts.clone() });
            maker.created(at + after + 400, &facts);
        } else {
            maker.created(at + after, &facts);
        }
        for phone in phones.iter().skip(usize::from(maker.rng.random_bool(0.7))) {
            let conversation_id = maker.somebody().conversation_id;
            let others = phones.iter().filter(|other| *other != phone).cloned().collect();
            let by = SampleFacts {
                phone: phone.clone(),
                more_phones: others,
                conversation_id,
                embed_contact: true,
                ..facts.clone()
            };
            let mut what = maker.pick(&[What::OptOut, What::OptOut, What::StopWord, What::Text]);
            for _ in 0..maker.rng.random_range(1..3) {
                let after = maker.rng.random_range(0..1_500);
                maker.say(at + after, what, &by, Dated::FromNow(0));
                what = maker.pick(&[What::OptOut, What::OptIn, What::OptIn]);
            }
        }
    }
}

/// The sandbox answers instead of the real API, or the other way round, until an operator mends it.
fn another_world(maker: &mut Maker, at: u64) {
    // A sandbox's store waits while nothing answers: no fault is in its plans.
    maker.may_be_sandbox();
    let facts = maker.somebody();
    maker.stop(at, &facts);
    let (begin, lasts) = (at + maker.rng.random_range(600..1_200), maker.rng.random_range(300..1_500));
    maker.step(begin, Step::OtherWorld);
    if maker.rng.random_bool(0.3) {
        let is_kill = maker.rng.random_bool(0.3);
        maker.step(begin + lasts / 2, Step::Restart { is_kill, leap: 0 });
    }
    for _ in 0..4 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..lasts + 300));
        maker.stop(begin + after, &facts);
    }
    let (facts, after) = (maker.somebody(), maker.rng.random_range(0..lasts));
    maker.say(begin + after, What::Text, &facts, Dated::FromNow(0));
    let facts = maker.somebody();
    maker.created(begin + after, &facts);
    maker.step(begin + lasts, Step::OwnWorld);
}

/// Bytes that a strict reader refuses, and events that nobody can read, among the others.
fn hard_to_read(maker: &mut Maker, at: u64) {
    for what in [What::OptOut, What::OptOut, What::OptIn, What::StopWord, What::Text, What::Created] {
        let facts = if maker.rng.random_bool(0.8) { maker.somebody() } else { maker.somebody_abroad() };
        let (after, blemish) = (maker.rng.random_range(0..1_200), maker.rng.random_range(0..8));
        let opt_out_id = crate::numbers::opt_out_id(&mut maker.rng, &facts.phone);
        let said = Said {
            what,
            written: facts.phone.clone(),
            facts,
            opt_out_id,
            dated: Dated::FromNow(0),
            blemish: Some(blemish),
        };
        maker.say_so(at + after, said);
    }
    for what in [What::NumberlessOptOut, What::Garbage, What::Garbage, What::Unheard] {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..1_200));
        let written = maker.pick(&["", "unknown", "+1 202", "12345", "n/a"]).to_owned();
        let blemish = (what == What::Garbage).then(|| maker.rng.random_range(0..4));
        let said = Said { what, facts, written, opt_out_id: None, dated: Dated::FromNow(0), blemish };
        let said = maker.say_so(at + after, said);
        if maker.rng.random_bool(0.3) {
            maker.step(at + after + 200, Step::SendAgain(said));
        }
    }
}
