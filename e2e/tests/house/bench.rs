//! `hookline bench` measures what it says, leaves nothing behind, and takes no address that it cannot use.

use hookline_e2e::House;
use serde_json::{Value, json};

use crate::commands::has_keys;

fn rows<'a>(document: &'a Value, pointer: &str) -> &'a Vec<Value> {
    document.pointer(pointer).and_then(Value::as_array).expect(pointer)
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_both_halves_on_the_embedded_broker_and_cleans_up() {
    let house = House::start().await;

    let report = house.json(&["bench", "--seconds", "1", "--runs", "1", "--concurrency", "10"]).await;

    let keys = ["hookline", "machine", "measured_at", "seconds", "runs", "rabbitmq_version", "ingest", "worker"];
    has_keys(&report, &[keys.as_slice(), &["cost", "targets", "left_out", "warnings"]].concat());
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
    for target in rows(&report, "/targets") {
        let (target_value, measured) = (target["target"].as_f64().unwrap(), target["measured"].as_f64().unwrap());
        let met = if target["bound"] == "at_least" { measured >= target_value } else { measured <= target_value };
        assert_eq!(target["met"], met, "{target:#}");
    }
    assert!(report["left_out"].to_string().contains("--broker-url"), "{}", report["left_out"]);

    let left: Vec<_> = std::fs::read_dir(house.dir().join("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_refuses_addresses_that_are_none_without_showing_them() {
    let house = House::start().await;

    for arguments in [
        ["bench", "--broker-url", "redis://user:hunter2@localhost"],
        ["bench", "--broker-url", "hunter2"],
        ["bench", "--store-url", "mysql://user:hunter2@localhost/x"],
        ["bench", "--store-url", "env:HOOKLINE_NO_SUCH_VARIABLE"],
    ] {
        let ran = house.cli(&arguments).await;

        assert_eq!(ran.code, Some(2), "{arguments:?} {ran:?}");
        assert!(ran.stderr.contains(arguments[1]), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_says_that_no_broker_answers() {
    let house = House::start().await;

    let ran = house.cli(&["bench", "ingest", "--broker-url", "amqp://user:hunter2@127.0.0.1:1/bench"]).await;

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot connect to RabbitMQ"), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}
