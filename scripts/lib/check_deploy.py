"""What no tool knows of the deployment files: that they fit each other, the code and the documents.

    python scripts/lib/check_deploy.py BUILT        (by scripts/validate, from the top of the repository)

BUILT holds compose.json (`docker compose config`), base.yaml and spool.yaml (`kubectl kustomize`) and secrets/ (made by
scripts/secrets). Prints every problem; exit 1 if there is one.
"""

import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

BUILT = Path(sys.argv[1])
OURS = ("ingest", "worker", "hookline")
# By the directory of secrets/ in which they are.
FROM_THE_USER = {"api": {"textus_api_token"}, "webhook": {"textus_webhook_secret"}}
problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


def text(path):
    return Path(path).read_text(encoding="utf-8")


def committed():
    """Files that git keeps, or would keep: tracked, and new ones that are not ignored."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                            check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and Path(name).is_file()]


def pinned(where, image):
    tag = image.split("@")[0].rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        problem(where, f"image {image} names no version")


# ---- compose --------------------------------------------------------------------------------------------------------

def check_compose(compose):
    made = {path.name for path in (BUILT / "secrets").iterdir() if path.is_file()}
    for name, secret in compose["secrets"].items():
        file = Path(secret["file"]).name
        if file not in made:
            problem("docker-compose.yml", f"secret {name}: scripts/secrets makes no {file}")
    for file in sorted(made - {Path(secret["file"]).name for secret in compose["secrets"].values()}):
        problem("scripts/secrets", f"makes {file}, which docker-compose.yml does not mount")

    for name, service in compose["services"].items():
        where = f"docker-compose.yml, {name}"
        pinned(where, service["image"])
        for mount in service.get("volumes", []):
            # The user makes what is under secrets.
            if mount["type"] == "bind" and "/secrets/" not in mount["source"] and not Path(mount["source"]).exists():
                problem(where, f"mounts {mount['source']}, which does not exist")
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                problem(where, f"port {port['target']} is published beyond 127.0.0.1")
            if port["target"] in (9464, 9465, 5672, 5432):
                problem(where, f"port {port['target']} is not for the host")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            problem(where, "no-new-privileges is missing")
        if name != "hookline" and "test" not in service.get("healthcheck", {}):
            problem(where, "has no health check")
        for key, value in (service.get("environment") or {}).items():
            if re.search("PASS|SECRET|TOKEN", key) and value and "/run/secrets/" not in value:
                problem(where, f"{key} is given in the environment; mount a file")

    for name in OURS:
        service, where = compose["services"][name], f"docker-compose.yml, {name}"
        if not (service.get("read_only") and service.get("init") and service.get("cap_drop") == ["ALL"]):
            problem(where, "needs read_only, init and cap_drop ALL")
        if not any(mount.startswith("/tmp") for mount in service.get("tmpfs", [])):
            problem(where, "has no tmpfs /tmp")
        if service.get("stop_grace_period") != "30s":
            problem(where, "stop_grace_period is not 30s")
    if compose["services"]["worker"].get("ports"):
        problem("docker-compose.yml, worker", "has a fixed port, so it cannot be scaled")

    # Whatever a program reads from /run/secrets is mounted there.
    config = tomllib.loads(text("deploy/compose/hookline.toml"))
    needs = {
        "ingest": {*config["broker"]["url"], *config["sources"][0]["secrets"]},
        "worker": {*config["broker"]["url"], config["textus"]["token"]},
        "hookline": {*config["broker"]["url"]},
    }
    for name, values in needs.items():
        service = compose["services"][name]
        values |= {value for value in service["environment"].values() if value.startswith("file:")}
        mounted = {f"/run/secrets/{secret.get('target', secret['source']).rpartition('/')[2]}" for secret in service["secrets"]}
        for mount in service.get("volumes", []):
            mounted |= {f"{mount['target']}/{name}" for name in FROM_THE_USER.get(Path(mount.get("source", "")).name, ())}
        for value in values:
            if value.startswith("file:") and value.removeprefix("file:") not in mounted:
                problem(f"docker-compose.yml, {name}", f"reads {value}, and no such secret is mounted")
    for name, forbidden in (("ingest", {"store_url", "textus_api_token", "ledger_key"}), ("worker", {"textus_webhook_secret"})):
        sources = {secret["source"] for secret in compose["services"][name]["secrets"]}
        for mount in compose["services"][name].get("volumes", []):
            sources |= FROM_THE_USER.get(Path(mount.get("source", "")).name, set())
        if sources & forbidden:
            problem(f"docker-compose.yml, {name}", f"holds secrets it has no use for: {sources & forbidden}")


def check_secret_files():
    directory = BUILT / "secrets"
    if stat.S_IMODE(directory.stat().st_mode) != 0o700:
        problem("scripts/secrets", "the directory is not 0700")
    again = subprocess.run(["scripts/secrets", str(directory)], capture_output=True, text=True)
    if again.returncode == 0:
        problem("scripts/secrets", "overwrites what is there")
    definitions = json.loads(text(directory / "rabbitmq_definitions.json"))
    users = {user["name"]: user for user in definitions["users"]}
    for name in ("ingest", "worker", "operator"):
        address = text(directory / f"{name}_broker_url")
        user, password = re.fullmatch(r"amqp://([a-z-]+):([0-9a-f]{48})@rabbitmq:5672/hookline\n", address).groups()
        if not hash_fits(users[user]["password_hash"], password):
            problem("scripts/secrets", f"the hash of {user} does not fit its password")
    if any(user["name"] == "guest" or "administrator" in user["tags"] for user in definitions["users"]):
        problem("definitions.template.json", "has a user who may do anything")
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "secrets/ledger_key"])
    if ignored.returncode != 0:
        problem(".gitignore", "does not ignore secrets/")


def hash_fits(kept, password):
    import base64
    import hashlib

    raw = base64.b64decode(kept)
    return raw[4:] == hashlib.sha256(raw[:4] + password.encode()).digest()


# ---- nothing secret in the repository --------------------------------------------------------------------------------

ADDRESS_WITH_PASSWORD = re.compile(r"[a-z]+://[^\s:/@'\"`{}$<>]+:([^\s@/'\"`{}$<>…]+)@")
# Addresses in documents and tests that name no real account.
PLACEHOLDERS = {"PASSWORD", "password", "secret", "pw", "%s", "guest", "hookline"}
KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def check_nothing_secret():
    for path in committed():
        if path.suffix in (".lock", ".png") or path.parts[0] not in ("deploy", "docs", "config", "scripts") and \
                len(path.parts) > 1:
            continue
        content = path.read_text(encoding="utf-8", errors="replace")
        for match in ADDRESS_WITH_PASSWORD.finditer(content):
            if match.group(1) not in PLACEHOLDERS:
                problem(path, f"an address with a password: {match.group(0)[:24]}…")
        if KEY_BLOCK.search(content) and path.name != Path(__file__).name:
            problem(path, "a private key")
    template = json.loads(text("deploy/rabbitmq/definitions.template.json"))
    for user in template["users"]:
        if user["password_hash"] != f"@HASH {user['name']}@":
            problem("definitions.template.json", f"{user['name']} has a fixed password")


# ---- Kubernetes -----------------------------------------------------------------------------------------------------

def check_kubernetes(name):
    file = BUILT / f"{name}.yaml"
    if not file.exists():  # kubectl is not to be had here; scripts/validate has said so
        return
    documented = text("docs/deploy.md")
    objects = [item for item in yaml.safe_load_all(text(file)) if item]
    for item in objects:
        where = f"deploy/kubernetes, {name}, {item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Secret":
            problem(where, "secrets are referred to, not shipped")
        if "namespace" in item["metadata"]:
            problem(where, "names a namespace")
        if item["apiVersion"].partition("/")[0] not in ("v1", "apps", "policy", "autoscaling", "networking.k8s.io"):
            problem(where, "needs a CRD")
        if item["kind"] in ("Deployment", "StatefulSet"):
            check_workload(where, item, documented)
    kinds = {(item["kind"], item["metadata"]["name"]) for item in objects}
    workload = "StatefulSet" if name == "spool" else "Deployment"
    if (workload, "hookline-ingest") not in kinds or len([k for k in kinds if k[1] == "hookline-ingest" and k[0] in ("Deployment", "StatefulSet")]) != 1:
        problem(f"deploy/kubernetes, {name}", f"ingest is not exactly one {workload}")
    config = next(item for item in objects if item["kind"] == "ConfigMap")
    if tomllib.loads(config["data"]["hookline.toml"])["ingest"]["on_broker_outage"] != "reject":
        problem(f"deploy/kubernetes, {name}", "a pod without a disk of its own must not spool")


def check_workload(where, item, documented):
    template = item["spec"]["template"]
    pod = template["spec"]
    labels = template["metadata"]["labels"]
    if labels.get("app.kubernetes.io/part-of") != "hookline":
        problem(where, "its pods escape the default-deny policy: no label part-of")
    if pod["terminationGracePeriodSeconds"] != 40 or pod.get("automountServiceAccountToken") is not False:
        problem(where, "terminationGracePeriodSeconds 40 and no service account token are asked for")
    for container in pod["containers"]:
        pinned(where, container["image"])
        paths = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        if paths != ["/livez", "/livez", "/readyz"]:
            problem(where, f"probes ask {paths}")
        if container["lifecycle"]["preStop"] != {"sleep": {"seconds": 5}}:
            problem(where, "preStop is not a sleep of 5 s")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        available = {volume["name"] for volume in pod["volumes"]}
        available |= {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        if mounted - available:
            problem(where, f"mounts {mounted - available}, which is no volume")
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            for entry in source["secret"]["items"]:
                if source["secret"]["name"] not in documented or entry["key"] not in documented:
                    problem("docs/deploy.md", f"does not say how secret {source['secret']['name']} gets its {entry['key']}")


# ---- Prometheus -----------------------------------------------------------------------------------------------------

def names_in(expression):
    return {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"\bhookline_[a-z_]+", expression)}


def check_prometheus(compose):
    metrics = [*Path("common/src/service/telemetry/metrics").rglob("*.rs"), Path("broker/src/metrics.rs")]
    code = "".join(text(path) for path in metrics)
    exported = set(re.findall(r'"(hookline_[a-z_]+)"', code))
    rules = [rule for group in yaml.safe_load(text("deploy/prometheus/rules/hookline.yml"))["groups"] for rule in group["rules"]]
    for rule in rules:
        for name in names_in(rule["expr"]) - {re.sub("_(bucket|count|sum)$", "", name) for name in exported}:
            problem("deploy/prometheus/rules/hookline.yml", f"{rule.get('alert', rule.get('record'))} asks for {name}, which the code does not export")

    headings = {anchor(line.lstrip("# ")) for line in text("docs/runbooks.md").splitlines() if line.startswith("#")}
    tests = {check["alertname"] for file in Path("deploy/prometheus/tests").glob("*.yml")
             for test in yaml.safe_load(text(file))["tests"]
             for check in test["alert_rule_test"] if check.get("exp_alerts")}
    runbooks = text("docs/runbooks.md")
    for rule in (rule for rule in rules if "alert" in rule):
        where = f"deploy/prometheus/rules/hookline.yml, {rule['alert']}"
        for key in ("summary", "command", "runbook_url"):
            if not rule["annotations"].get(key):
                problem(where, f"has no {key}")
        if rule["labels"].get("severity") not in ("page", "ticket"):
            problem(where, "severity is neither page nor ticket")
        page, _, part = rule["annotations"]["runbook_url"].partition("#")
        if page != "docs/runbooks.md" or part not in headings:
            problem(where, f"docs/runbooks.md has no part {part}")
        if rule["alert"] not in tests:
            problem(where, "no test makes it fire")
        if rule["alert"] not in runbooks:
            problem("docs/runbooks.md", f"does not name {rule['alert']}")

    for job in yaml.safe_load(text("deploy/prometheus/prometheus.yml"))["scrape_configs"]:
        where = f"deploy/prometheus/prometheus.yml, {job['job_name']}"
        for found in job.get("dns_sd_configs", []):
            for name in found["names"]:
                listen = compose["services"].get(name, {}).get("environment", {}).get("HOOKLINE__ADMIN__LISTEN", "")
                if listen != f"0.0.0.0:{found['port']}":
                    problem(where, f"{name}:{found['port']} is not where that service listens")
        for static in job.get("static_configs", []):
            for target in static["targets"]:
                if target.partition(":")[0] not in compose["services"]:
                    problem(where, f"{target} is no service of docker-compose.yml")


def anchor(heading):
    """As code hosts make it: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


compose_file = json.loads(text(BUILT / "compose.json"))
check_compose(compose_file)
check_secret_files()
check_nothing_secret()
for line in text("deploy/Dockerfile").splitlines():
    if line.startswith("FROM "):
        base = line.split()[1]
        if base not in ("chef", "plan", "build"):
            pinned("deploy/Dockerfile", base)
for built in ("base", "spool"):
    check_kubernetes(built)
check_prometheus(compose_file)
print("\n".join(problems) or "all of it fits")
sys.exit(bool(problems))
