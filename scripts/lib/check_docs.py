"""Whether the documents fit each other and the code.

    python3 scripts/lib/check_docs.py        (by scripts/validate, from the top of the repository)

Links lead somewhere, a comment cites a document that exists, docs/reference.md names exactly the metrics of the code, and
no file names a repository that is not ours. Prints every problem; exit 1 if there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
CITED = re.compile(r"(?<![\w./-])(docs/[\w/.-]+\.(?:md|py))")
METRIC = re.compile(r"\bhookline_[a-z_]+")
NOT_METRICS = {"hookline_bench"}
problems = []


def committed(*patterns):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
                            check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and Path(name).is_file()]


def text(path):
    return path.read_text(encoding="utf-8", errors="replace")


def anchors(path):
    """As code hosts make them: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", text(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def check_links():
    for path in committed("*.md"):
        for link in LINK.findall(text(path)):
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            if not target.exists():
                problems.append(f"{path}: {link} leads nowhere")
            elif anchor and anchor not in anchors(target):
                problems.append(f"{path}: {target} has no part {anchor}")


def check_citations():
    for path in committed("*.rs", "*.toml", "*.yml", "*.sh", "scripts", "deploy", "*.md"):
        for name in CITED.findall(text(path)):
            if not Path(name).exists():
                problems.append(f"{path}: cites {name}, which does not exist")


def check_metrics():
    sources = [*Path("common/src/service/telemetry/metrics").rglob("*.rs"), Path("broker/src/metrics.rs")]
    exported = {name for path in sources for name in re.findall(r'"(hookline_[a-z_]+)"', text(path))}
    documented = set(METRIC.findall(text(Path("docs/reference.md")))) - NOT_METRICS
    for name in sorted(exported ^ documented):
        where = "the code" if name in documented else "docs/reference.md"
        problems.append(f"docs/reference.md: {name} is missing in {where}")


def check_addresses():
    for path in committed():
        if path.name != Path(__file__).name and re.search(r"github\.com/hookline", text(path)):
            problems.append(f"{path}: names a repository that is not ours; use a path in this one")


check_links()
check_citations()
check_metrics()
check_addresses()
print("\n".join(problems) or "all of it fits")
sys.exit(bool(problems))
