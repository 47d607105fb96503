"""Kill `retail models promote` and `rollback` at random instants, run them again, and count what went wrong.

    python -m tests.benchmarks.bench_promotion_kills [--kills 40] [--seed 7]

A home with four versions; before each kill, version 3 is in production and versions 2 and 1 before it. The
command runs in a forked process, so that imports take no time, and is killed after a random part of the
duration of an undisturbed run. It is then run again as a person would: if it printed no result;
`twice_if_always_repeated` counts the rollbacks that a repetition without looking would have made twice. Then
half as many pairs of rollbacks run at once.

Prints one JSON line: by command, numbers of changes that were lost (not made after the second run), undone or
made twice, entries with a wrong `previous`, and runs after which MLflow's alias was not that of the record.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from retail_core.registry import promotion_record as record
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import Author, promote
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import stop_mongod
from tests.forked_processes import REGISTRY_MODULES, context, preload
from tests.serving import register_shop, register_variant

COMMANDS = {"promote": ("models", "promote", "4"), "rollback": ("models", "rollback")}
EXPECTED = {"promote": "4", "rollback": "2"}

preload([*REGISTRY_MODULES, "retail_core.cli.app"])


def run_command(home: str, command: tuple[str, ...], out: str) -> None:
    """The command of `retail`, in this process, its output in a file."""
    from retail_core.cli.app import app

    os.environ["RETAIL_HOME"] = home
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    app([*command, "--json"], standalone_mode=False)
    sys.stdout.flush()


def start(settings: Settings, command: tuple[str, ...], out: Path) -> Any:
    """A running process of the command."""
    process = context.Process(target=run_command, args=(str(settings.home), command, str(out)))
    process.start()
    return process


def reset(store: Store, promoted: list[record.Entry]) -> None:
    """Version 3 in production, and versions 2 and 1 before it."""
    store.promotions.delete_many({})
    store.promotions.insert_many(promoted)
    registry.set_production(store.settings, "3")


def faults(store: Store, name: str) -> Counter[str]:
    """What is wrong after the command has been run once, or killed and run again."""
    champion = champion_version(store)
    entries = record.history(store)
    changes = [entry["version"] for entry in entries[3:]]
    wrong = [after for before, after in itertools.pairwise(entries) if after["previous"] != before["version"]]
    return Counter(
        lost=int(not changes),
        undone=int(bool(changes) and champion != EXPECTED[name]),
        twice=int(len(changes) > 1),
        wrong_previous=len(wrong),
        alias_differs=int(registry.production_version(store.settings) != entries[-1]["version"]),
    )


def kill_repeatedly(store: Store, promoted: list[record.Entry], name: str, kills: int, out: Path) -> Any:
    """Kill and repeat; the counts of `faults`, and where the kills fell."""
    command, counts = COMMANDS[name], Counter[str]()
    seconds = 0.0
    for _ in range(2):  # the first process waits for the imports of the server that forks it
        reset(store, promoted)
        started = time.perf_counter()
        start(store.settings, command, out).join()
        seconds = time.perf_counter() - started
    while counts["killed"] < kills:
        reset(store, promoted)
        out.write_text("")
        process = start(store.settings, command, out)
        time.sleep(random.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            continue
        newest = record.newest_entry(store)
        answered = '"repeated"' in out.read_text()
        counts["killed"] += 1
        recorded = newest is not None and newest["_id"] > len(promoted)
        counts["killed_after_entry"] += int(recorded)
        counts["answered_before_kill"] += int(answered)
        counts["twice_if_always_repeated"] += int(
            name == "rollback" and recorded and record.is_confirmed(newest or {})
        )
        if not answered:
            start(store.settings, command, out).join()
        counts.update(faults(store, name))
    return {"seconds": round(seconds, 2), **counts}


def run_pairs(store: Store, promoted: list[record.Entry], pairs: int, folder: Path) -> Any:
    """Two rollbacks at once; each is recorded correctly, also where the second one came after the first."""
    counts = Counter[str]()
    for _ in range(pairs):
        reset(store, promoted)
        processes = [start(store.settings, COMMANDS["rollback"], folder / f"{number}") for number in range(2)]
        for process in processes:
            process.join()
        counts.update(faults(store, "rollback"))
    return dict(counts)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    random.seed(options.seed)
    for name in [name for name in os.environ if name.startswith(("RETAIL_", "MLFLOW_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings, out = Settings(home=Path(folder) / "home"), Path(folder) / "out"
        try:
            register_shop(settings)
            for factor in (0.5, 0.6, 0.7):
                register_variant(settings, factor=factor)
            with open_store(settings) as store:
                for version in ("2", "3"):
                    promote(store, version, Author("test"))
                promoted = record.history(store)
                result = {
                    name: kill_repeatedly(store, promoted, name, options.kills, out) for name in COMMANDS
                }
                result["two_rollbacks_at_once"] = run_pairs(store, promoted, options.kills // 2, Path(folder))
            print(json.dumps(result), flush=True)
        finally:
            stop_mongod(settings)


if __name__ == "__main__":
    main()
