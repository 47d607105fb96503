"""Checks of the supply chain and for secrets, and the bill of materials: `make audit`.

Each check prints one line: passed, failed, or not checked with the reason. Exit code 1 if one failed, with
--strict also if one could not be made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.licences import NOT_IN_METADATA, TOOLS_ONLY, is_allowed, licence_of, locked_packages, refused

ROOT = Path(__file__).resolve().parents[1]
RUNTIME_LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
SOURCES = ("retail_core", "flows", "bentos", "app", "tools", "docker")
REVIEWED_SECRETS = ROOT / ".secrets.baseline"
SBOM = ROOT / "build" / "sbom.cdx.json"
PASSED, FAILED, NOT_CHECKED = "ok", "FAILED", "NOT CHECKED"
_SECONDS = 300


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        state: one of the three constants.
        text: what was checked, or what was found.
        details: findings, one a line.
    """

    state: str
    text: str
    details: tuple[str, ...] = ()


def known_vulnerabilities() -> Outcome:
    """Ask the package index, or what PIP_AUDIT_VULNERABILITY_SERVICE names, about every locked package."""
    locks = [argument for lock in (DEV_LOCK, ROOT / "requirements-uv.lock") for argument in ("-r", str(lock))]
    options = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "-f", "json")
    done = _run("pip_audit", *options, *locks)
    try:
        return vulnerability_outcome(json.loads(done.stdout)["dependencies"])
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Outcome(NOT_CHECKED, f"the advisory data cannot be read: {reason[:200]}")


def vulnerability_outcome(dependencies: Iterable[Mapping[str, Any]]) -> Outcome:
    """The outcome of pip-audit's answers, which count a package without advisory data as not vulnerable."""
    entries = list(dependencies)
    skipped = [entry["name"] for entry in entries if "skip_reason" in entry]
    found = tuple(
        f"{entry['name']} {entry['version']}: {advisory['id']}, fixed in "
        f"{', '.join(advisory['fix_versions']) or 'no release'}"
        for entry in entries
        for advisory in entry.get("vulns", ())
    )
    if found:
        return Outcome(FAILED, f"{len(found)} known vulnerabilities", found)
    if skipped:
        text = f"no advisory data for {len(skipped)} of {len(entries)} packages"
        return Outcome(NOT_CHECKED, text, () if len(skipped) == len(entries) else tuple(skipped))
    return Outcome(PASSED, f"no known vulnerability in {len(entries)} packages")


def insecure_calls() -> Outcome:
    """Bandit's findings of medium and high severity in the product and its tools."""
    done = _run("bandit", "-q", "-ll", "-f", "json", "-r", *SOURCES)
    report = json.loads(done.stdout)
    found = tuple(
        f"{issue['filename']}:{issue['line_number']}: {issue['test_id']} {issue['issue_text']}"
        for issue in report["results"]
    )
    if found or report["errors"]:
        return Outcome(FAILED, f"{len(found)} insecure calls", found + tuple(map(str, report["errors"])))
    lines = report["metrics"]["_totals"]["loc"]
    return Outcome(PASSED, f"no finding of medium or high severity in {lines} lines")


def committed_secrets() -> Outcome:
    """Texts in tracked files that look like secrets and are not among the reviewed ones."""
    report = _scan_secrets()
    new = new_secrets(report, json.loads(REVIEWED_SECRETS.read_text()))
    if new:
        text = f"{len(new)} texts look like secrets; once reviewed: python -m tools.audit --accept-secrets"
        return Outcome(FAILED, text, tuple(new))
    reviewed = sum(map(len, report["results"].values()))
    return Outcome(
        PASSED, f"no secret in the tracked files; {reviewed} texts that look like one were reviewed"
    )


def new_secrets(report: Mapping[str, Any], reviewed: Mapping[str, Any]) -> list[str]:
    """Place and kind of each entry of a scan that is not reviewed; its line is not compared."""
    known = {
        (path, entry["hashed_secret"]) for path, entries in reviewed["results"].items() for entry in entries
    }
    return [
        f"{path}:{entry['line_number']}: {entry['type']}"
        for path, entries in report["results"].items()
        for entry in entries
        if (path, entry["hashed_secret"]) not in known
    ]


def accept_secrets() -> None:
    """Write what the scan finds now as reviewed: hashes, without places in the files."""
    report = _scan_secrets()
    for entry in (entry for entries in report["results"].values() for entry in entries):
        del entry["line_number"]
    del report["generated_at"]
    REVIEWED_SECRETS.write_text(json.dumps(report, indent=2) + "\n")


def licences() -> Outcome:
    """Licences of every locked package."""
    runtime, tools = locked_packages(RUNTIME_LOCK), locked_packages(DEV_LOCK)
    found = [*refused(runtime), *refused(tools.keys() - runtime.keys(), TOOLS_ONLY)]
    if found:
        return Outcome(FAILED, f"{len(found)} licences are not allowed", tuple(found))
    absent = [name for name in sorted(tools) if licence_of(name) is None]
    notes = [f"{name} {note}" for name, note in NOT_IN_METADATA.items() if name in runtime]
    if absent:
        notes.append(f"of other platforms, not installed here and not checked: {', '.join(absent)}")
    return Outcome(PASSED, f"the licences of {len(tools) - len(absent)} packages are allowed", tuple(notes))


def bill_of_materials() -> Outcome:
    """Write the CycloneDX document of what the product installs, with hashes and licences, to `SBOM`."""
    SBOM.parent.mkdir(exist_ok=True)
    options = (
        "--pyproject",
        "pyproject.toml",
        "--mc-type",
        "application",
        "--output-reproducible",
        "-o",
        "-",
    )
    done = _run("cyclonedx_py", "requirements", str(RUNTIME_LOCK), *options)
    if done.returncode:
        return Outcome(
            FAILED, "cyclonedx-py ended with an error", tuple(done.stderr.strip().splitlines()[-3:])
        )
    document = json.loads(done.stdout)
    for component in document["components"]:
        # The tool's description is the line of the lock file with all hashes.
        component.pop("description", None)
        expression = licence_of(component["name"])
        if expression and is_allowed(expression):
            component["licenses"] = [{"expression": expression}]
    text = json.dumps(document, indent=1)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        return Outcome(FAILED, "the bill of materials is not CycloneDX 1.6", (str(problem)[:300],))
    SBOM.write_text(text + "\n")
    return Outcome(PASSED, f"CycloneDX of {len(document['components'])} packages in {SBOM.relative_to(ROOT)}")


CHECKS: dict[str, Callable[[], Outcome]] = {
    "vulnerabilities": known_vulnerabilities,
    "insecure calls": insecure_calls,
    "secrets": committed_secrets,
    "licences": licences,
    "bill of materials": bill_of_materials,
}


def main() -> int:
    """Run all checks and print them."""
    if "--accept-secrets" in sys.argv[1:]:
        accept_secrets()
        return 0
    states = set()
    for name, check in CHECKS.items():
        outcome = check()
        states.add(outcome.state)
        print(f"{name:<18} {outcome.state}: {outcome.text}", *outcome.details, sep="\n    ", flush=True)  # noqa: T201
    return int(FAILED in states or (NOT_CHECKED in states and "--strict" in sys.argv[1:]))


def _scan_secrets() -> dict[str, Any]:
    # The hashes of lock files are no secrets, and the reviewed hashes would be found themselves.
    excluded = r"\.lock$|^\.secrets\.baseline$"
    report: dict[str, Any] = json.loads(_run("detect_secrets", "scan", "--exclude-files", excluded).stdout)
    return report


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
