//! For half an hour, one fault after another at random while webhooks keep coming: nothing is lost, and memory stays flat.

use std::time::{Duration, Instant};

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Half, Load, Part, send_all};
use hookline_sandbox::{Endpoint, Fault as ApiFault, FaultRule};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::brokers::connected;
use crate::channels::{UNKNOWN_TAG, sent_on};
use crate::{Fault, full, seed};

const MINUTES_QUICK: usize = 1;
const MINUTES_FULL: usize = 30;
/// From one fault to the next.
const ROUND: Duration = Duration::from_secs(10);
const EVENTS_A_ROUND: usize = 40;
const LASTS: Duration = Duration::from_secs(4);
/// How much more memory a process may hold in the last quarter than in the second.
const FLAT: f64 = 1.1;

/// The place that is killed and restarted; the process at the other one runs through, and is measured.
const VICTIM: usize = 1;
const MEASURED: usize = 0;

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    BrokerKilled,
    BrokerStops,
    ConnectionsClosed,
    ChannelsClosed,
    MemoryAlarm,
    WorkerKilled,
    WorkerStops,
    WorkerFrozen,
    IngestStops,
    ApiFails,
    ApiHangs,
}

const ALL: [Trouble; 12] = [
    Trouble::Nothing,
    Trouble::BrokerKilled,
    Trouble::BrokerStops,
    Trouble::ConnectionsClosed,
    Trouble::ChannelsClosed,
    Trouble::MemoryAlarm,
    Trouble::WorkerKilled,
    Trouble::WorkerStops,
    Trouble::WorkerFrozen,
    Trouble::IngestStops,
    Trouble::ApiFails,
    Trouble::ApiHangs,
];

impl Trouble {
    async fn happens(self, all_in_one: &mut Deployment<'_>, node: &RabbitNode) {
        match self {
            Self::Nothing => {}
            Self::BrokerKilled => {
                node.kill().await;
                node.up().await;
            }
            Self::BrokerStops => {
                node.ctl(&["stop_app"]).await;
                tokio::time::sleep(LASTS).await;
                node.ctl(&["start_app"]).await;
            }
            Self::ConnectionsClosed => drop(node.ctl(&["close_all_connections", "soak"]).await),
            Self::ChannelsClosed => drop(sent_on(all_in_one, "Consumers > 0", UNKNOWN_TAG).await),
            Self::MemoryAlarm => {
                node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
                tokio::time::sleep(LASTS).await;
                node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
            }
            Self::WorkerKilled => {
                all_in_one.kill(Half::Worker, VICTIM).await;
                all_in_one.put(Half::Worker, VICTIM, &[]).await;
            }
            Self::WorkerStops => {
                assert_eq!(all_in_one.stop(Half::Worker, VICTIM).await, Some(0), "a worker ends within its grace");
                all_in_one.put(Half::Worker, VICTIM, &[]).await;
            }
            Self::WorkerFrozen => {
                all_in_one.part(Half::Worker, VICTIM).process.freeze();
                tokio::time::sleep(LASTS).await;
                all_in_one.part(Half::Worker, VICTIM).process.thaw();
            }
            Self::IngestStops => {
                assert_eq!(all_in_one.stop(Half::Ingest, VICTIM).await, Some(0), "an ingest ends within its grace");
                all_in_one.put(Half::Ingest, VICTIM, &[]).await;
            }
            Self::ApiFails => api(all_in_one, FaultRule::new(ApiFault::status(503))).await,
            Self::ApiHangs => {
                api(all_in_one, FaultRule::new(ApiFault::Hang(LASTS * 2)).on(Endpoint::PutOptOut)).await;
            }
        }
    }
}

async fn api(all_in_one: &Deployment<'_>, rule: FaultRule) {
    all_in_one.sandbox.fault(rule);
    tokio::time::sleep(LASTS).await;
    all_in_one.sandbox.clear_faults();
}

/// What a process holds in memory, in MiB.
fn resident(part: &Part) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", part.process.id())).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f38_half_an_hour_of_random_faults_loses_nothing_and_memory_stays_flat() {
    let minutes = full(MINUTES_QUICK, MINUTES_FULL);
    let fault = Fault::new("F38", "30 minutes of random faults (quick: 1), 4 events a second, memory flat");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(2, 2, "").await;
    let rounds = minutes * 60 / usize::try_from(ROUND.as_secs()).expect("few");
    let events = rounds * EVENTS_A_ROUND;
    let load = Load::mixed(seed(), events, events / 10, &all_in_one.sandbox);
    let mut random = StdRng::seed_from_u64(seed());
    let (mut memory, mut kills) = ([Vec::new(), Vec::new()], 0);

    for part in load.parts(rounds) {
        let began = Instant::now();
        let trouble = ALL[random.random_range(0..ALL.len())];
        // What a PUT's answer was lost to.
        kills += usize::from(matches!(trouble, Trouble::WorkerKilled | Trouble::ApiHangs | Trouble::WorkerFrozen));
        let sender = all_in_one.sender.clone();
        tokio::join!(trouble.happens(&mut all_in_one, &nodes[0]), send_all(&sender, part));
        tokio::time::sleep_until((began + ROUND).into()).await;
        for (half, samples) in [Half::Ingest, Half::Worker].into_iter().zip(&mut memory) {
            samples.push(resident(all_in_one.part(half, MEASURED)));
        }
    }
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, kills).await;

    for (half, samples) in [Half::Ingest, Half::Worker].into_iter().zip(&memory) {
        let quarter = samples.len().div_ceil(4);
        let (before, after) = (median(&samples[quarter..][..quarter]), median(&samples[samples.len() - quarter..]));
        println!("F38: {half:?} held {before:.1} MiB in the second quarter and {after:.1} MiB in the last");
        // A minute is no time to settle.
        assert!(minutes == MINUTES_QUICK || after <= before * FLAT, "{half:?}: {samples:.1?}");
    }
    let answers = all_in_one.sender.statuses();
    assert!(answers.is_subset(&[200, 503].into()), "{:?}", all_in_one.sender.answers());
    fault.survived(tally, Some(recovered));
}
