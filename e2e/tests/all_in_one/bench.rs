//! `hookline-bench` measures what it says, leaves nothing behind, and takes no address that it cannot use.

use hookline_e2e::AllInOne;
use serde_json::{Value, json};

use crate::commands::has_keys;

fn rows<'a>(document: &'a Value, pointer: &str) -> &'a Vec<Value> {
    document.pointer(pointer).and_then(Value::as_array).expect(pointer)
}

fn targets_say_whether_they_are_met(report: &Value) {
    for target in rows(report, "/targets") {
        let (target_value, measured) =
            (target["target"].as_f64().expect("a number"), target["measured"].as_f64().expect("a number"));
        let met = if target["bound"] == "at_least" { measured >= target_value } else { measured <= target_value };
        assert_eq!(target["met"], met, "{target:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_both_halves_on_the_embedded_broker_and_cleans_up() {
    let all_in_one = AllInOne::start().await;

    let report = all_in_one
        .bench(&["ingest", "worker", "--seconds", "1", "--runs", "1", "--concurrency", "10", "--json"])
        .await
        .json();

    let keys = ["hookline", "machine", "measured_at", "seconds", "runs", "rabbitmq_version", "ingest", "worker"];
    let more = ["pacing", "opt_outs", "isolation", "cost", "targets", "left_out", "warnings"];
    has_keys(&report, &[keys.as_slice(), &more].concat());
    has_keys(&report["machine"], &["cores", "cpu", "memory_mib", "kernel", "load_before"]);
    assert_eq!((&report["seconds"], &report["runs"]), (&json!(1), &json!(1)));

    let ingest = rows(&report, "/ingest/measurements");
    let programs: Vec<_> = ingest.iter().map(|one| (&one["program"], &one["broker"])).collect();
    let (verify, ours, embedded) = (json!("actix_verify"), json!("hookline"), json!("embedded"));
    assert_eq!(programs, [(&verify, &Value::Null), (&ours, &embedded)]);
    for one in ingest {
        assert_eq!(one["median"]["failed"], 0, "{one:#}");
        assert!(one["median"]["answered"].as_u64().is_some_and(|answered| answered > 0), "{one:#}");
        assert!(one["median"]["p50_ms"].as_f64() <= one["median"]["p99_ms"].as_f64(), "{one:#}");
        assert_eq!(one["runs"].as_array().map(Vec::len), Some(1), "{one:#}");
    }
    for comparison in rows(&report, "/ingest/comparisons") {
        assert!(comparison["throughput_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{comparison:#}");
    }

    assert_eq!(report["worker"]["latency_ms"], 50);
    let worker = rows(&report, "/worker/measurements");
    let programs: Vec<_> = worker.iter().map(|one| (&one["program"], &one["store"])).collect();
    assert_eq!(programs, [(&json!("reqwest"), &Value::Null), (&ours, &json!("sqlite"))]);
    for one in worker {
        assert_eq!(one["limit_per_second"], 200.0, "{one:#}");
        // No more than is possible: each call takes the API's time, and ten are under way.
        assert!(one["share"].as_f64().is_some_and(|share| share > 0.0 && share < 1.1), "{one:#}");
    }
    assert_eq!(rows(&report, "/cost").len(), 2, "ingest and worker");
    targets_say_whether_they_are_met(&report);
    assert!(report["left_out"].to_string().contains("--broker-url"), "{}", report["left_out"]);
    assert_eq!([&report["pacing"], &report["opt_outs"], &report["isolation"]], [&Value::Null; 3], "not asked for");

    let left: Vec<_> = std::fs::read_dir(all_in_one.dir().join("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_how_one_worker_uses_a_limit() {
    let all_in_one = AllInOne::start().await;

    let report = all_in_one.bench(&["pacing", "--seconds", "1", "--runs", "1", "--json"]).await.json();

    assert_eq!(report["pacing"]["window_ms"], 3_000, "no time is spent on what is no figure");
    let pacing = rows(&report, "/pacing/measurements");
    let cases: Vec<_> = pacing.iter().map(|one| (&one["workers"], &one["beside_another"])).collect();
    assert_eq!(cases, [(&json!(1), &json!(false)), (&json!(1), &json!(true))]);
    for one in pacing {
        assert!(one["used"].as_f64().is_some_and(|used| used > 0.0 && used < 1.5), "{one:#}");
        assert!(one["violations"].as_u64().is_some() && one["refused_share"].as_f64().is_some(), "{one:#}");
        let run = &one["runs"][0];
        assert!(run["calls"].as_u64() > run["refused"].as_u64() && run["windows"].as_u64() >= Some(4), "{run:#}");
        assert_eq!(run["others_calls"].as_u64() > Some(0), one["beside_another"] == true, "{run:#}");
    }
    assert!(report["left_out"].to_string().contains("4 and 10 workers"), "{}", report["left_out"]);
    targets_say_whether_they_are_met(&report);
    assert_eq!([&report["ingest"], &report["worker"], &report["opt_outs"]], [&Value::Null; 3], "not asked for");
    assert_eq!(report["cost"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_opt_outs_behind_notes_and_what_an_api_that_hangs_slows_down() {
    let all_in_one = AllInOne::start().await;

    let report = all_in_one.bench(&["opt-outs", "isolation", "--seconds", "1", "--runs", "1", "--json"]).await.json();

    opt_outs_arrived(&report, 1);
    both_phases_were_measured(&report, "sqlite");
    targets_say_whether_they_are_met(&report);
    let left: Vec<_> = std::fs::read_dir(all_in_one.dir().join("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn opt_outs_arrived(report: &Value, workers: u64) {
    for one in rows(report, "/opt_outs/measurements") {
        assert_eq!((&one["workers"], &one["opt_outs"], &one["missing"]), (&json!(workers), &json!(30), &json!(0)));
        let counted: u64 =
            rows(one, "/calls_before_counts").iter().filter_map(|count| count["opt_outs"].as_u64()).sum();
        assert_eq!(counted, 30, "{one:#}");
        assert_eq!(one["put_again"], 0, "the API's answer ends an opt-out: {one:#}");
        for what in ["seconds", "beyond_slot_seconds", "calls_before"] {
            has_keys(&one[what], &["p50", "p90", "p99", "max"]);
        }
        assert!(one["beyond_slot_seconds"]["max"].as_f64() <= one["seconds"]["max"].as_f64(), "{one:#}");
    }
}

fn both_phases_were_measured(report: &Value, store: &str) {
    let isolation = &report["isolation"];
    assert_eq!((&isolation["store"], &isolation["handler"]), (&json!(store), &json!("sync_contact")));
    assert!(isolation["p99_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{isolation:#}");
    let run = &rows(isolation, "/runs")[0];
    for phase in ["healthy", "hanging"] {
        assert!(run[phase]["settled"].as_u64() > Some(0), "{run:#}");
    }
    assert!(run["healthy"]["answered"].as_u64() > Some(0), "the API answers: {run:#}");
    assert_eq!(run["hanging"]["answered"], 0, "it hangs: {run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_refuses_addresses_that_are_none_without_showing_them() {
    let all_in_one = AllInOne::start().await;

    for arguments in [
        ["--broker-url", "redis://user:hunter2@localhost"],
        ["--broker-url", "hunter2"],
        ["--store-url", "mysql://user:hunter2@localhost/x"],
        ["--store-url", "env:HOOKLINE_NO_SUCH_VARIABLE"],
    ] {
        let ran = all_in_one.bench(&arguments).await;

        assert_eq!(ran.code, Some(2), "{arguments:?} {ran:?}");
        assert!(ran.stderr.contains(arguments[0]), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_says_that_no_broker_answers() {
    let all_in_one = AllInOne::start().await;

    let ran = all_in_one.bench(&["ingest", "--broker-url", "amqp://user:hunter2@127.0.0.1:1/bench"]).await;

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot connect to RabbitMQ"), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}
