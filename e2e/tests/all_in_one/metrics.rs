//! `/metrics`: every name and label set of docs/reference.md from zero, and what moves with one opt-out.

use hookline_e2e::{ACCOUNT, AllInOne, HANDLERS, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};

const INGEST_RESULTS: [&str; 11] = [
    "accepted",
    "duplicate_seen",
    "unparsed",
    "signature_mismatch",
    "signature_missing",
    "unknown_source",
    "body_too_large",
    "method_not_allowed",
    "request_timeout",
    "overloaded",
    "not_durable",
];
const VERDICTS: [&str; 5] = ["done", "skipped", "parked", "dead_lettered", "released"];
const DEAD_REASONS: [&str; 9] = [
    "rejected",
    "not_found",
    "attempts_exhausted",
    "too_old",
    "outcome_unknown",
    "unknown_contact",
    "ambiguous_contact",
    "unreadable",
    "delivery_limit",
];

/// One sample of the text format.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

struct Metrics(Vec<Sample>);

impl Metrics {
    fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(Sample::parse).collect())
    }

    /// The value of the sample with exactly these labels, in any order.
    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut wanted: Vec<_> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        wanted.sort();
        let found = self.0.iter().find(|sample| sample.name == name && sample.labels == wanted);
        found.unwrap_or_else(|| panic!("{name} {labels:?}")).value
    }

    #[track_caller]
    fn is_zero(&self, name: &str, labels: &[(&str, &str)]) {
        assert_eq!(self.value(name, labels), 0.0, "{name} {labels:?}");
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (sample, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.trim_end_matches('}');
        let mut labels: Vec<(String, String)> = labels
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        labels.sort();
        Self { name: name.to_owned(), labels, value: value.parse().expect(line) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_exists_from_zero() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;

    let (status, text) = running.admin("/metrics").await;
    let metrics = Metrics::parse(&text);

    assert_eq!(status, 200);
    for result in INGEST_RESULTS {
        metrics.is_zero("hookline_ingest_requests_total", &[("source", "textus"), ("result", result)]);
    }
    metrics.is_zero("hookline_ingest_ack_seconds_count", &[("source", "textus")]);
    for name in
        ["hookline_ingest_spool_events", "hookline_ingest_spool_bytes", "hookline_publish_confirm_seconds_count"]
    {
        metrics.is_zero(name, &[]);
    }
    assert_eq!(metrics.value("hookline_broker_connected", &[]), 1.0);
    metrics.is_zero("hookline_opt_out_latency_seconds_count", &[]);
    for handler in HANDLERS {
        let own = ("handler", handler);
        for verdict in VERDICTS {
            metrics.is_zero("hookline_deliveries_total", &[own, ("verdict", verdict)]);
        }
        for reason in DEAD_REASONS {
            metrics.is_zero("hookline_dead_letters_total", &[own, ("reason", reason)]);
        }
        for reason in ["duplicate", "echo", "stale"] {
            metrics.is_zero("hookline_effects_suppressed_total", &[own, ("reason", reason)]);
        }
        for name in
            ["hookline_delivery_seconds_count", "hookline_event_age_seconds_count", "hookline_deliveries_in_flight"]
        {
            metrics.is_zero(name, &[own]);
        }
        for queue in ["work", "dead"] {
            let queue = format!("hookline.{queue}.{handler}");
            metrics.is_zero("hookline_queue_messages", &[("queue", &queue)]);
            metrics.is_zero("hookline_queue_oldest_seconds", &[("queue", &queue)]);
        }
    }
    destinations_are_there(&metrics);
    let build = metrics.0.iter().find(|sample| sample.name == "hookline_build_info").expect("the build");
    let keys: Vec<&str> = build.labels.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((keys, build.value), (vec!["commit", "version"], 1.0));
    running.stop().await;
}

fn destinations_are_there(metrics: &Metrics) {
    for (destination, operations) in [
        ("textus", &["put_opt_out", "get_opt_out", "get_message", "get_conversation", "create_contact"][..]),
        ("system_of_record", &[]),
    ] {
        let own = ("destination", destination);
        for operation in operations {
            for status in ["2xx", "3xx", "4xx", "429", "5xx", "error"] {
                let labels = [own, ("operation", *operation), ("status", status)];
                metrics.is_zero("hookline_api_requests_total", &labels);
            }
            metrics.is_zero("hookline_api_request_seconds_count", &[own, ("operation", *operation)]);
        }
        metrics.value("hookline_api_budget_remaining", &[own]);
        metrics.value("hookline_api_budget_limit", &[own]);
        metrics.is_zero("hookline_destination_seconds_to_drain", &[own]);
        for (state, expected) in [("closed", 1.0), ("open", 0.0), ("half_open", 0.0), ("paused", 0.0)] {
            assert_eq!(metrics.value("hookline_destination_state", &[own, ("state", state)]), expected);
        }
    }
    for (state, expected) in [("not_known", 1.0), ("complete", 0.0), ("incomplete", 0.0), ("unhealthy", 0.0)] {
        assert_eq!(metrics.value("hookline_webhook_subscription", &[("state", state)]), expected);
    }
    for event_type in hookline_sandbox::samples::EVENT_TYPES {
        metrics.is_zero("hookline_webhook_subscription_missing", &[("event_type", event_type)]);
    }
    for unsent in ["", "_stuck", "_oldest_seconds"] {
        metrics.is_zero(&format!("hookline_opt_outs_unsent{unsent}"), &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_opt_out_moves_what_it_touches() {
    let all_in_one =
        AllInOne::with(|sandbox| sandbox.rate_limit = Some((1000, std::time::Duration::from_secs(300))), "").await;
    let running = all_in_one.run().await;

    let body = sample("contact.opted_out", &SampleFacts::random(ACCOUNT));
    all_in_one.sender.send(&body).await;
    all_in_one.settled().await;
    all_in_one.sender.post_signed(body.to_string().as_bytes(), "00").await.unwrap();
    let (_, text) = running.admin("/metrics").await;
    let metrics = Metrics::parse(&text);

    // The opt-out, and the webhook that its PUT raised.
    let textus = ("source", "textus");
    assert_eq!(metrics.value("hookline_ingest_requests_total", &[textus, ("result", "accepted")]), 2.0);
    assert_eq!(metrics.value("hookline_ingest_requests_total", &[textus, ("result", "signature_mismatch")]), 1.0);
    assert_eq!(metrics.value("hookline_ingest_ack_seconds_count", &[textus]), 2.0);
    let own = ("handler", "record_opt_out");
    assert_eq!(metrics.value("hookline_deliveries_total", &[own, ("verdict", "done")]), 1.0);
    assert_eq!(metrics.value("hookline_deliveries_total", &[own, ("verdict", "skipped")]), 1.0);
    assert_eq!(metrics.value("hookline_effects_suppressed_total", &[own, ("reason", "echo")]), 1.0);
    assert_eq!(metrics.value("hookline_event_age_seconds_count", &[own]), 2.0);
    assert_eq!(metrics.value("hookline_opt_out_latency_seconds_count", &[]), 1.0);
    let put = [("destination", "textus"), ("operation", "put_opt_out")];
    assert_eq!(metrics.value("hookline_api_requests_total", &[put[0], put[1], ("status", "2xx")]), 1.0);
    assert_eq!(metrics.value("hookline_api_request_seconds_count", &put), 1.0);
    assert_eq!(metrics.value("hookline_api_budget_limit", &put[..1]), 1000.0);
    // The PUT, and the question before the process's first one.
    assert_eq!(metrics.value("hookline_api_budget_remaining", &put[..1]), 998.0);
    let history = [("handler", "record_history"), ("verdict", "done")];
    assert_eq!(metrics.value("hookline_deliveries_total", &history), 2.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_drain_is_what_status_tells() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    assert_eq!(all_in_one.cli(&["pause", "textus"]).await.code, Some(0));

    for _ in 0..20 {
        all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    }

    let textus = [("destination", "textus")];
    // 1,000 in 5 minutes, as documented: no answer has told another limit.
    eventually("the metrics tell of all twenty", async || {
        let metrics = Metrics::parse(&running.admin("/metrics").await.1);
        (metrics.value("hookline_destination_seconds_to_drain", &textus) == 6.0).then_some(())
    })
    .await;
    let status = all_in_one.json(&["status"]).await;
    let destinations = status["destinations"].as_array().expect("destinations");
    let shown = destinations.iter().find(|row| row["destination"] == "textus").expect("it is there");
    assert_eq!((&shown["seconds_to_drain"], &shown["state"]), (&6.into(), &"paused".into()));

    assert_eq!(all_in_one.cli(&["resume", "textus"]).await.code, Some(0));
    eventually("it is drained", async || {
        let metrics = Metrics::parse(&running.admin("/metrics").await.1);
        (metrics.value("hookline_destination_seconds_to_drain", &textus) == 0.0).then_some(())
    })
    .await;
    running.stop().await;
}
