"""What scripts/compose reads: Prometheus' targets, and `hookline status --json`, on stdin. Exit 0 if all is as it must be."""

import json
import sys

JOBS = {"hookline-ingest", "hookline-worker", "rabbitmq", "rabbitmq-queues"}
DONE = ("record_opt_out", "log_note", "sync_contact", "record_history")


def targets(answer):
    found = answer["data"]["activeTargets"]
    return JOBS <= {target["labels"]["job"] for target in found} and all(target["health"] == "up" for target in found)


def settled(status, sent, has_forgotten):
    """Each job was done, at least `sent` events were recorded, nothing is lost, nothing waits, and nothing was given up. A
    sandbox that was made anew has forgotten messages, whose notes are given up then."""
    rows = {row["handler"]: row for row in status["handlers"] or []}
    balances = all(
        row["accepted"] == sum(row[key] for key in ("done", "skipped", "dead_lettered", "discarded", "waiting"))
        and row["waiting"] == 0
        and (row["dead_lettered"] == 0 or (has_forgotten and row["handler"] == "log_note"))
        for row in rows.values()
    )
    return bool(rows) and balances and all(rows[name]["done"] > 0 for name in DONE) and rows["record_history"]["done"] >= sent


document = json.load(sys.stdin)
fine = targets(document) if sys.argv[1] == "targets" else settled(document, int(sys.argv[2]), "forgotten" in sys.argv[3:])
sys.exit(0 if fine else 1)
