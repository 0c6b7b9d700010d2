"""What scripts/compose-by-hand takes from docker-compose.yml and prometheus.yml, with host names and paths of this machine.

    compose_by_hand.py environment COMPOSE_JSON SERVICE SECRETS     KEY=VALUE lines for `env`
    compose_by_hand.py prometheus JOB=HOST:PORT,…                   the configuration, from deploy/prometheus
    compose_by_hand.py ids                                          `hookline trigger --json` on stdin: the event ids
    compose_by_hand.py balances STATUS EVENTS IDS                   files of `hookline status --json`, `events list --json`
                                                                    and ids; exit 0 when each id has ended and sums hold
    compose_by_hand.py targets COUNT                                Prometheus' answer on stdin: all up, no rule ails
"""

import json
import re
import sys
import tomllib
from pathlib import Path


def environment(compose, service_name, secrets):
    """The service's own variables; and each `file:/run/secrets/X` of the configuration, as a file of this machine."""
    service = json.loads(Path(compose).read_text(encoding="utf-8"))["services"][service_name]
    mounted = {secret.get("target", secret["source"]).rpartition("/")[2]: secret["source"] for secret in service["secrets"]}
    for mount in service.get("volumes", []):
        if mount["target"].startswith("/run/secrets/"):
            directory = mount["target"].removeprefix("/run/secrets/")
            mounted |= {f"{directory}/{file.name}": f"{directory}/{file.name}" for file in Path(secrets, directory).iterdir()}

    def here(value):
        file = re.fullmatch("file:/run/secrets/(.+)", value)
        return f"file:{secrets}/{mounted[file.group(1)]}" if file and file.group(1) in mounted else value

    config = tomllib.loads(Path("deploy/compose/hookline.toml").read_text(encoding="utf-8"))
    found = {key: here(value) for key, value in service["environment"].items()}
    found["HOOKLINE_CONFIG"] = str(Path("deploy/compose/hookline.toml").resolve())
    found["HOOKLINE__BROKER__URL"] = json.dumps([here(url) for url in config["broker"]["url"]])
    for key, value in (("HOOKLINE__SOURCES__0__SECRETS", config["sources"][0]["secrets"][0]),
                       ("HOOKLINE__TEXTUS__TOKEN", config["textus"]["token"])):
        if here(value) != value:  # only what this service has been given
            found[key] = json.dumps([here(value)]) if key.endswith("SECRETS") else here(value)
    print("\n".join(f"{key}={value}" for key, value in found.items()))


def prometheus(targets):
    import yaml

    config = yaml.safe_load(Path("deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(Path("deploy/prometheus/rules").resolve() / "*.yml")]
    at = dict(target.split("=") for target in targets)
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": at[job["job_name"]].split(",")}]
    print(yaml.safe_dump(config))


def ids(document):
    answer = json.load(document)
    if answer["no_answer"] or list(answer["statuses"]) != ["200"]:
        sys.exit(f"not every webhook was answered 200: {answer['statuses']}, {answer['no_answer']} without an answer")
    print("\n".join(answer["event_ids"]))


def balances(status_file, events_file, ids_file):
    status = json.loads(Path(status_file).read_text(encoding="utf-8"))
    events = json.loads(Path(events_file).read_text(encoding="utf-8"))["events"]
    wanted = set(Path(ids_file).read_text(encoding="utf-8").split())
    states = {event["event_id"]: {delivery["state"] for delivery in event["deliveries"]} for event in events}
    missing = wanted - states.keys()
    waiting = {event for event in wanted & states.keys() if not states[event] or "waiting" in states[event]}
    uneven = [
        row for row in status["handlers"]
        if row["waiting"] or row["accepted"] != row["done"] + row["skipped"] + row["dead_lettered"] + row["discarded"]
    ]
    for row in status["handlers"]:
        print(f"  {row['handler']:15} accepted {row['accepted']:5}  done {row['done']:5}  skipped {row['skipped']:4}"
              f"  dead-lettered {row['dead_lettered']:3}  waiting {row['waiting']:4}")
    print(f"  {len(wanted)} events acknowledged: {len(missing)} not recorded, {len(waiting)} not settled; "
          f"unrecorded {status['unrecorded']} {status.get('unrecorded_reason', '')}")
    return bool(wanted) and not missing and not waiting and not uneven and not status["unrecorded"]


def targets(document, count):
    found = json.load(document)["data"]["result"]
    for row in found:
        print(f"  up {row['value'][1]}  {row['metric']['job']}  {row['metric']['instance']}")
    return len(found) == count and all(row["value"][1] == "1" for row in found)


def main(command, *arguments):
    match command:
        case "environment":
            environment(*arguments)
        case "prometheus":
            prometheus(arguments)
        case "ids":
            ids(sys.stdin)
        case "balances":
            return balances(*arguments)
        case "targets":
            return targets(sys.stdin, int(arguments[0]))
        case _:
            sys.exit(__doc__)
    return True


sys.exit(not main(*sys.argv[1:]))
