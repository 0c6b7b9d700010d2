//! `hookline trigger`: sends signed sample webhooks, one or many.

mod bodies;
mod load;
mod set;
mod summary;
mod target;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use hookline_common::event::{EventType, KNOWN_TYPES};
use url::Url;

use self::bodies::Bodies;
use self::load::Plan;
use self::set::Set;
use crate::open::{Place, wrong_usage};
use crate::{output, progress};

#[derive(Args, Clone, Debug)]
pub(crate) struct TriggerArgs {
    /// Event type: message.received, contact.opted_out, …; an unknown type is sent as given
    #[arg(required_unless_present = "file")]
    event_type: Option<String>,
    /// Number of posts, repeats included
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Posts a second [default: as fast as they are answered]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Number of posts in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Share of posts that repeat an earlier one, byte for byte
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    duplicates: u8,
    /// Address to post to [default: the first source of the configuration, or of a running `hookline dev`]
    #[arg(long)]
    url: Option<Url>,
    /// Secret to sign with: a text, env:NAME or file:PATH [default: the first source's secret]
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// Post with a real secret to another machine, where the consequences are real
    #[arg(long)]
    yes: bool,
    /// Change a value of the body, to JSON or else a text; may be given several times
    #[arg(long, value_name = "JSON_POINTER=VALUE")]
    set: Vec<Set>,
    /// Send this file instead of a sample, byte for byte unless --set changes it; - is stdin
    #[arg(long, value_name = "BODY")]
    file: Option<PathBuf>,
    /// Print one JSON document instead of a summary
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, args: TriggerArgs) -> anyhow::Result<ExitCode> {
    let target = target::resolve(place, args.url.as_ref(), args.secret.as_deref(), args.yes)?;
    let duplicates = repeats(args.count, args.duplicates);
    let bodies = match (&args.file, &args.event_type) {
        (Some(path), _) => Bodies::fixed(read_body(path)?, &args.set, &target.secret).map_err(wrong_usage)?,
        (None, Some(event_type)) => {
            warn_of_unknown(event_type);
            Bodies::sample(event_type, args.set, &target, args.count, duplicates).map_err(wrong_usage)?
        }
        (None, None) => return Err(wrong_usage("give an event type or --file")),
    };
    let concurrency = usize::from(args.concurrency).min(usize::try_from(args.count).unwrap_or(usize::MAX));
    let plan = Plan { url: target.url, bodies, count: args.count, concurrency, rate: args.rate };
    load::send(plan, progress::bar(args.count, "sent")).await?.print(args.json)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("give a number of posts a second above 0".to_owned()),
    }
}

/// Returns the number of repeats. The first post repeats nothing, whatever the share.
fn repeats(count: u64, percent: u8) -> u64 {
    let share = u128::from(count) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX).min(count.saturating_sub(1))
}

fn read_body(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("cannot read the body from stdin")?;
        return Ok(body);
    }
    std::fs::read(path).map_err(|error| wrong_usage(format!("cannot read {}: {error}", path.display())))
}

fn warn_of_unknown(event_type: &str) {
    if !EventType::new(event_type).is_known() {
        output::hint(&format!(
            "{event_type:?} is not a type that TextUs documents; it is sent as given. Known: {}",
            KNOWN_TYPES.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_repeats_leaves_one_original() {
        for (count, percent, expected) in [(100, 10, 10), (1, 100, 0), (10, 100, 9), (3, 50, 1), (1_000, 0, 0)] {
            assert_eq!(repeats(count, percent), expected, "{percent} % of {count}");
        }
    }

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!(rate("2.5"), Ok(2.5));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
