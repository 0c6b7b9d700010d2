//! Answers for a while, or once, that an opt-out must survive.

use std::time::Duration;

use hookline_e2e::ACCOUNT;
use hookline_sandbox::Fault;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Known and unknown ones; none that is final for a PUT.
const NOT_FINAL: [u16; 33] = [
    101, 102, 103, 199, 300, 301, 302, 303, 304, 307, 308, 399, 402, 405, 406, 408, 418, 421, 423, 425, 426, 428, 431,
    451, 499, 500, 501, 502, 503, 504, 520, 599, 799,
];

/// What is tried again, whatever it is.
pub(crate) fn not_final(rng: &mut StdRng) -> Fault {
    match rng.random_range(0..12) {
        0 => Fault::Reset,
        1 => Fault::Hang(Duration::from_secs(5)),
        2..4 => Fault::redirect(rng.random_range(301..304), "https://status.example.test/"),
        _ => Fault::status(*NOT_FINAL.choose(rng).expect("there are some")),
    }
}

/// What a PUT can be answered with; nearly each is no proof, whether or not it was carried out.
pub(crate) fn unasked(rng: &mut StdRng, another: &str) -> Fault {
    let page = || b"<!doctype html><title>Saved</title>".to_vec().into();
    match rng.random_range(0..14) {
        0 | 1 => Fault::maintenance_page(),
        2 | 3 => Fault::opt_out_of(ACCOUNT, another),
        4 => Fault::another_resource(),
        5 => Fault::Gzip,
        6 => Fault::LoneSurrogate,
        7 => Fault::CutUtf8,
        8 => Fault::TruncatedBody,
        9 => Fault::EffectThenBody { status: 200, media_type: "text/html".to_owned(), body: page() },
        10 => Fault::EffectThenStatus(*[200, 204, 409, 422, 500, 302].choose(rng).expect("there are some")),
        11 => Fault::EffectThenReset,
        12 => Fault::Interim(103),
        _ => Fault::GarbageBody,
    }
}
