"""Simulated shop-days with faults of MongoDB, the lake and the registry, and kills; what went wrong.

    python -m tests.benchmarks.bench_shop_days --out FILE [--shops 500] [--days 20] [--first 1]

Each shop has its own seed, home and database on one mongod, and lives for `--days` days or until its first
violation (`tests/simulation`). A line is appended to FILE for each shop, and shops that are in it are not
repeated, so that an interrupted run continues. `--first SEED --shops 1` replays a shop. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.home_copies import copy_home, drop_database
from tests.serving import register_shop, register_variant
from tests.simulation.shop_days import ShopDays


def main() -> None:
    """Simulate, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shops", type=int, default=500)
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    seeds = range(options.first, options.first + options.shops)
    missing = [seed for seed in seeds if seed not in _finished(options.out, options.days)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Settings(home=Path(folder) / "mongod")
        try:
            template = _versions(server, Path(folder) / "template") if missing else server
            for seed in missing:
                _simulate(template, Path(folder) / str(seed), seed, options)
        finally:
            stop_mongod(server)
    print(json.dumps(_summary(list(_finished(options.out, options.days).values()))))


def _versions(server: Settings, home: Path) -> Settings:
    """A home with versions 1 to 4, of which 1 is in production, on the server of another."""
    uri = ensure_mongod(server, idle_seconds=86_400)
    template = Settings(home=home, mongodb_uri=uri, mongodb_database="template", standby=False)
    register_shop(template)
    for factor in (0.5, 0.6, 0.7):
        register_variant(template, factor=factor)
    return template


def _simulate(template: Settings, folder: Path, seed: int, options: argparse.Namespace) -> None:
    folder.mkdir()
    settings, started = copy_home(template, folder / "home"), time.process_time()
    try:
        findings = ShopDays(settings, folder, seed).live(options.days)
    finally:
        drop_database(settings)
    seconds = round(time.process_time() - started, 2)
    entry = {"seed": seed, "asked": options.days, "cpu_seconds": seconds, **vars(findings)}
    with options.out.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")
    print(f"seed {seed}: {findings.days} days, {findings.violations}", file=sys.stderr, flush=True)


def _finished(out: Path, days: int) -> dict[int, dict[str, object]]:
    """Entries of shops that lived for so many days, by seed."""
    lines = out.read_text().splitlines() if out.is_file() else []
    return {entry["seed"]: entry for entry in map(json.loads, lines) if entry["asked"] == days}


def _summary(entries: list[dict[str, object]]) -> dict[str, object]:
    totals: dict[str, Counter[str]] = {"commands": Counter(), "faults": Counter()}
    for entry in entries:
        for name, total in totals.items():
            total.update(entry[name])  # type: ignore[call-overload]
    violations = {str(entry["seed"]): entry["violations"] for entry in entries if entry["violations"]}
    return {
        "shops": len(entries),
        "days": sum(int(str(entry["days"])) for entry in entries),
        "cpu_seconds": round(sum(float(str(entry["cpu_seconds"])) for entry in entries)),
        **totals,
        "violations": violations,
    }


if __name__ == "__main__":
    main()
