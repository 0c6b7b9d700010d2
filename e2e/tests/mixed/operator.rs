//! What happens besides: other people's events, and an operator's acts.

use hookline_sandbox::SampleFacts;
use rand::RngExt as _;

use crate::maker::Maker;
use crate::plan::{Dated, Step, What};

/// Texts, contacts, opt-outs and opt-ins of others, some of them repeated.
pub(crate) fn ordinary_day(maker: &mut Maker, span: u64) {
    for _ in 0..maker.rng.random_range(3..8) {
        let at = maker.rng.random_range(0..span);
        let facts = maker.somebody();
        let said = match maker.rng.random_range(0..10) {
            0..4 => maker.stop(at, &facts),
            4..6 => {
                let attachments = maker.rng.random_range(0..2);
                maker.say(at, What::Text, &SampleFacts { attachments, ..facts }, Dated::FromNow(0))
            }
            6..8 => created(maker, at, facts),
            8 => maker.say(at, What::OptIn, &facts, Dated::FromNow(0)),
            _ => {
                maker.stop(at, &facts);
                maker.say(at + 200, What::OptIn, &facts, Dated::FromNow(0))
            }
        };
        if maker.rng.random_bool(0.25) {
            let (first, later) = (maker.said_at(said), maker.rng.random_range(20..800));
            maker.step(first + later, Step::SendAgain(said));
        }
    }
}

fn created(maker: &mut Maker, at: u64, facts: SampleFacts) -> usize {
    let second = maker.rng.random_bool(0.4).then(|| maker.somebody().phone);
    maker.created(at, &SampleFacts { more_phones: second.into_iter().collect(), ..facts })
}

/// Restarts, replays, a secret rotated, a pause; what was done, in words.
pub(crate) fn interferes(maker: &mut Maker, span: u64) -> Vec<&'static str> {
    let mut done = Vec::new();
    if maker.rng.random_bool(0.25) {
        let (at, is_kill) = (maker.rng.random_range(300..span), maker.rng.random_bool(0.6));
        maker.step(at, Step::Restart { is_kill, leap: 0 });
        done.push(if is_kill { "kill -9" } else { "restart" });
    }
    if maker.rng.random_bool(0.2) {
        let at = maker.rng.random_range(300..span);
        maker.step(at, Step::RotateSecret);
        done.push("secret rotated");
    }
    if maker.rng.random_bool(0.3) {
        let opting: Vec<usize> =
            maker.said().filter(|(_, said)| said.is_about_opting()).map(|(index, _)| index).collect();
        for _ in 0..2 {
            if let Some(index) = (!opting.is_empty()).then(|| maker.pick(&opting)) {
                let at = maker.said_at(index) + maker.rng.random_range(300..1_200);
                maker.step(at, Step::Replay(index));
            }
        }
        done.push("replay");
    }
    if maker.rng.random_bool(0.1) {
        let at = maker.rng.random_range(0..span);
        maker.step(at, Step::Pause);
        maker.step(at + 300, Step::Resume);
        done.push("pause and resume");
    }
    done
}
