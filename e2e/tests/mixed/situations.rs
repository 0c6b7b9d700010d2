//! Situations in which an opt-out was lost once, or could be: each adds its events and faults to a plan, at its own time.
//! The numbers are those of the kinds in docs/faults.md.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, SECOND_ACCOUNT};
use hookline_sandbox::{Endpoint, Fault, FaultRule, Method};
use rand::RngExt as _;

use crate::maker::Maker;
use crate::plan::{Dated, Said, Step, Trouble, What};
use crate::{numbers, statuses};

pub(crate) type Situation = fn(&mut Maker, u64);

pub(crate) const EVERYWHERE: [(&str, Situation); 15] = [
    ("1 reads fail, PUTs work", reads_fail),
    ("2 a forbidden message", a_forbidden_message),
    ("2 an account refuses", an_account_refuses),
    ("2 refused credentials", refused_credentials),
    ("4 other statuses for a while", other_statuses),
    ("5 answers that nobody asked for", unasked_answers),
    ("6 one account refuses for good", one_account_refuses),
    ("6 an account is added", an_account_is_added),
    ("6 two at once", two_at_once),
    ("7 dated ahead", dated_ahead),
    ("7 late and out of order", out_of_order),
    ("8 from abroad", from_abroad),
    ("8 oddly written", oddly_written),
    ("11 paused", paused),
    ("throttled", throttled),
];
pub(crate) const ON_ONE_MACHINE: [(&str, Situation); 1] = [("6 a lost opt-in", a_lost_opt_in)];
pub(crate) const ON_RABBITMQ: [(&str, Situation); 1] = [("9 unrouted", unrouted)];

fn reads_fail(maker: &mut Maker, at: u64) {
    let fault = match maker.rng.random_range(0..9) {
        0 => Fault::maintenance_page(),
        1 => Fault::Hang(Duration::from_secs(20)),
        2 => Fault::redirect(302, "/maintenance"),
        _ => Fault::status(maker.pick(&[500, 502, 503, 423])),
    };
    let rule = FaultRule::new(fault).method(Method::GET);
    maker.trouble_that(at, 0, Trouble { rule, holds_puts: false, and_then: Duration::ZERO, is_lasting: true });
    for note in 0..maker.rng.random_range(16..25) {
        let facts = maker.somebody();
        maker.say(at + 50 + 20 * note, What::Text, &facts, Dated::FromNow(0));
    }
    for _ in 0..3 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(600..2_000));
        maker.stop(at + after, &facts);
    }
}

fn a_forbidden_message(maker: &mut Maker, at: u64) {
    for _ in 0..maker.rng.random_range(1..4) {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..300));
        let facts = hookline_sandbox::SampleFacts { account: "acme_elsewhere".to_owned(), ..facts };
        maker.say(at + after, What::ForbiddenText, &facts, Dated::FromNow(0));
    }
    for _ in 0..4 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(200..1_200));
        maker.stop(at + after, &facts);
    }
}

/// The token may not write there, or nothing is there, for a while.
fn an_account_refuses(maker: &mut Maker, at: u64) {
    maker.needs_both_accounts();
    let (status, account) = (maker.pick(&[403, 404]), maker.pick(&[ACCOUNT, SECOND_ACCOUNT]));
    let until = at + maker.rng.random_range(500..1_500);
    maker.trouble(at, until, FaultRule::new(Fault::status(status)).on(Endpoint::PutOptOut).account(account));
    for _ in 0..3 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(50..600));
        maker.stop(at + after, &facts);
    }
}

fn refused_credentials(maker: &mut Maker, at: u64) {
    let until = at + maker.rng.random_range(300..900);
    let rule = FaultRule::new(Fault::status(401));
    // A probe finds out, or the next one, where reads tell nothing.
    let and_then = 2 * crate::stage::PAUSED_PROBE;
    maker.trouble_that(at, until, Trouble { rule, holds_puts: true, and_then, is_lasting: false });
    for _ in 0..2 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..900));
        maker.stop(at + after, &facts);
    }
}

fn other_statuses(maker: &mut Maker, at: u64) {
    let fault = statuses::not_final(&mut maker.rng);
    let rule = FaultRule::new(fault);
    let rule = if maker.rng.random_bool(0.7) { rule.method(Method::PUT) } else { rule };
    let rule = match maker.rng.random_range(0..4) {
        0 => rule.share(0.6, maker.rng.random()),
        _ => rule,
    };
    let until = at + maker.rng.random_range(300..1_600);
    maker.trouble(at, until, rule);
    for _ in 0..3 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..500));
        maker.stop(at + after, &facts);
    }
    let facts = maker.somebody();
    maker.say(at + 100, What::Text, &facts, Dated::FromNow(0));
}

fn unasked_answers(maker: &mut Maker, at: u64) {
    let another = maker.somebody();
    for _ in 0..3 {
        let facts = if maker.rng.random_bool(0.7) { maker.somebody() } else { maker.somebody_abroad() };
        let fault = statuses::unasked(&mut maker.rng, &another.phone);
        let rule = FaultRule::new(fault).on(Endpoint::PutOptOut).phone(&facts.phone);
        let (begin, calls) = (at + maker.rng.random_range(0..600), maker.rng.random_range(1..4));
        maker.trouble(begin, begin + 2_500, rule.times(calls));
        maker.stop(begin + 20, &facts);
    }
}

/// One account refuses a number for good and takes it later. The person says STOP again, or an operator redrives.
fn one_account_refuses(maker: &mut Maker, at: u64) {
    maker.needs_both_accounts();
    let (facts, account) = (maker.somebody(), maker.pick(&[ACCOUNT, SECOND_ACCOUNT]));
    let refusal = FaultRule::new(Fault::status(maker.pick(&[400, 422]))).on(Endpoint::PutOptOut);
    maker.trouble(at, at + 2_000, refusal.account(account).phone(&facts.phone).times(1));
    maker.stop(at + 30, &facts);
    if maker.rng.random_bool(0.8) {
        let after = maker.rng.random_range(750..1_500);
        maker.stop(at + after, &facts);
    }
}

fn an_account_is_added(maker: &mut Maker, at: u64) {
    // What else is in the plan may need both.
    let facts = maker.somebody();
    maker.stop(at, &facts);
    maker.step(at + 500, Step::AddAccount);
    let after = maker.rng.random_range(510..1_500);
    maker.stop(at + after, &facts);
}

fn two_at_once(maker: &mut Maker, at: u64) {
    let facts = maker.somebody();
    let fault = match maker.rng.random_range(0..3) {
        0 => Fault::Slow(Duration::from_millis(250)),
        1 => Fault::EffectThenHang(Duration::from_secs(2)),
        _ => Fault::EffectThenReset,
    };
    maker.trouble(at, at + 900, FaultRule::new(fault).on(Endpoint::PutOptOut).phone(&facts.phone).times(2));
    let first = maker.stop(at + 10, &facts);
    maker.step(at + 20, Step::SendAgain(first));
    maker.stop(at + 60, &facts);
    let after = maker.rng.random_range(100..700);
    maker.stop(at + after, &facts);
}

/// The sender's clock is wrong, or its date.
fn dated_ahead(maker: &mut Maker, at: u64) {
    for _ in 0..2 {
        let facts = maker.somebody();
        let ahead = maker.pick(&[Dated::In2031, Dated::FromNow(600_000), Dated::FromNow(90_000)]);
        let (first, second) =
            if maker.rng.random_bool(0.8) { (What::OptIn, What::OptOut) } else { (What::OptOut, What::OptIn) };
        if maker.rng.random_bool(0.3) {
            maker.stop(at, &facts);
        }
        maker.say(at + 200, first, &facts, ahead);
        let after = maker.rng.random_range(500..1_200);
        maker.say(at + after, second, &facts, Dated::FromNow(0));
    }
}

fn out_of_order(maker: &mut Maker, at: u64) {
    let facts = maker.somebody();
    for _ in 0..maker.rng.random_range(2..6) {
        let what = if maker.rng.random_bool(0.6) { What::OptOut } else { What::OptIn };
        // Ties are likely.
        let late = maker.pick(&[0, 0, -1_000, -60_000, -60_000, -3_600_000, -86_400_000]);
        let after = maker.rng.random_range(0..1_500);
        let said = maker.say(at + after, what, &facts, Dated::FromNow(late));
        if maker.rng.random_bool(0.3) {
            maker.step(at + after + 200, Step::SendAgain(said));
        }
    }
}

fn from_abroad(maker: &mut Maker, at: u64) {
    for _ in 0..3 {
        let (facts, after) = (maker.somebody_abroad(), maker.rng.random_range(0..1_000));
        maker.stop(at + after, &facts);
        // The number at home with these digits is somebody else's, who mostly says nothing.
        if let Some(phone) = numbers::its_double(&facts.phone).filter(|_| maker.rng.random_bool(0.3)) {
            let double = hookline_sandbox::SampleFacts { phone, ..maker.somebody() };
            maker.stop(at + after + 200, &double);
        }
    }
}

fn oddly_written(maker: &mut Maker, at: u64) {
    for _ in 0..3 {
        let facts = if maker.rng.random_bool(0.7) { maker.somebody() } else { maker.somebody_abroad() };
        let written = numbers::oddly_written(&mut maker.rng, &facts.phone);
        let (after, opt_out_id) = (maker.rng.random_range(0..1_000), None);
        let said = Said { what: What::OptOut, facts, written, opt_out_id, dated: Dated::FromNow(0), blemish: None };
        maker.say_so(at + after, said);
    }
}

fn paused(maker: &mut Maker, at: u64) {
    let until = at + maker.rng.random_range(600..2_500);
    maker.step(at, Step::Pause);
    for _ in 0..3 {
        let (facts, before) = (maker.somebody(), maker.rng.random_range(0..500));
        maker.stop(until.saturating_sub(before).max(at + 100), &facts);
    }
    maker.step(until, Step::Resume);
}

fn throttled(maker: &mut Maker, at: u64) {
    let rule = FaultRule::new(Fault::Throttle { retry_after: "1".to_owned() });
    let (rule, calls) = (if maker.rng.random_bool(0.5) { rule.method(Method::PUT) } else { rule }, 2);
    let and_then = Duration::from_secs(1);
    let trouble = Trouble { rule: rule.times(calls), holds_puts: true, and_then, is_lasting: false };
    maker.trouble_that(at, at + 1_000, trouble);
    for _ in 0..3 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(0..900));
        maker.stop(at + after, &facts);
    }
}

/// START, of which no webhook comes; more than five minutes after the PUT, STOP again.
fn a_lost_opt_in(maker: &mut Maker, at: u64) {
    let facts = maker.somebody();
    let said = maker.stop(at, &facts);
    maker.step(at + 900, Step::LostOptIn(said));
    let leap = maker.rng.random_range(330..1_200);
    let is_kill = maker.rng.random_bool(0.3);
    maker.step(at + 950, Step::Restart { is_kill, leap });
    maker.stop(at + 1_000, &facts);
}

/// Retries, second ones too, fall out of the topology while the API fails, and are redriven when it works.
fn unrouted(maker: &mut Maker, at: u64) {
    maker.trouble(at, at + 4_000, FaultRule::new(Fault::status(503)).method(Method::PUT));
    for _ in 0..3 {
        let (facts, after) = (maker.somebody(), maker.rng.random_range(20..1_000));
        maker.stop(at + after, &facts);
    }
    maker.step(at + 2_500, Step::Unroute);
    maker.step(at + 4_500, Step::Route);
}
