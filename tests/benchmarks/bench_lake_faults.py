"""Killed, concurrent and damaged: what the lake loses, doubles, or reads wrongly. Each figure should be 0.

    python -m tests.benchmarks.bench_lake_faults [--kills 50] [--pairs 20] [--damages 1000] [--seed 1]
        [--folder FOLDER] [--keep]

1. Commands that synchronize the lake (`retail ingest`, also of a file that is there already) or start a
   training (it synchronizes, pins the versions and reads them) are killed with SIGKILL at random instants
   between their start and the duration of the last complete one, and run again. Every tenth is a process of
   its own, the others are forked. A command that ends before it is killed does not count.
2. Two homes with one MongoDB and one lake run `retail ingest` of a file each at the same time, while a third
   file is ingested; in every fourth pair a user of all files is erased meanwhile. Files of a day are merged
   in every third pair or so.
3. The lake of a shop with a registered model is damaged in each way of `test_lake_damage.KINDS` and of
   `MORE_KINDS`; then `retail score` writes the predictions of all users.

After each try the lake is compared with MongoDB: ids and keys of events, attributes and links; after the
third kind also the predictions with those of the undamaged lake. An error is unclear unless it is one line
with a remedy. Every try is a line of FOLDER/tries.jsonl with its seed; a killed run continues after the last
one. The last line that is printed is one JSON object with the counts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from retail_core.settings import Settings
from retail_core.store.lake.table import damage, pending, sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.command_line import ROOT, command_environment
from tests.fault_shop import DAYS, START, FaultShop
from tests.forked_commands import ForkedCommand, is_clear, lake_differences, run_forked
from tests.forked_processes import preload
from tests.integration.test_lake_damage import KINDS, flip, zero_fill

KINDS_OF_KILLS = ("sync", "ingest", "train")
PROCESS_EVERY = 10
ERASE_EVERY = 4
TRAIN = ("train", "--as-of", "2025-01-03T00:00:00Z")
"""Ends with one line about too few buyers once the rows are read, so that a try takes no minute."""

Try = dict[str, Any]


def _first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def _replace_pins(root: Path) -> None:
    shutil.rmtree(root / "pins")
    (root / "pins").touch()


MORE_KINDS: dict[str, Callable[[Path], object]] = {
    "predictions: bit": lambda root: flip(_first(root, "predictions/*/*/*.parquet"), 60),
    "predictions deleted": lambda root: _first(root, "predictions/*/*/*.parquet").unlink(),
    "log of predictions emptied": lambda root: zero_fill(_first(root, "predictions/_delta_log/*.json")),
    "log of links truncated": lambda root: zero_fill(_first(root, "identities/_delta_log/*.json"), 0.5),
    "log of users deleted in part": lambda root: _first(root, "users/_delta_log/*.json").unlink(),
    "pins are a file": _replace_pins,
    "pin is zero-filled": lambda root: zero_fill(_first(root, "pins/events/*")),
    "pin of another name": lambda root: (root / "pins" / "events" / "x").touch(),
    "lock deleted": lambda root: (root / "sync.lock").unlink(),
    "empty file beside the data": lambda root: (root / "events" / "day=2025-01-02" / "a.parquet").touch(),
    "pointer to the checkpoint zero-filled": lambda root: zero_fill(
        root / "events" / "_delta_log" / "_last_checkpoint"
    ),
    "everything deleted": shutil.rmtree,
}
"""Further damages: other tables, the lock, pins, and what a checkpoint needs."""


class Tries:
    """Results in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: list[Try] = [json.loads(line) for line in path.open()] if path.exists() else []

    def of(self, part: str) -> list[Try]:
        """Those of one part."""
        return [entry for entry in self.done if entry["part"] == part]

    def add(self, part: str, **figures: object) -> None:
        """Store and print a try."""
        entry = {"part": part, **figures}
        self.done.append(entry)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)


def outcome(store: Store, done: list[CompletedProcess[str]]) -> Try:
    """What every try reports: rows lost and doubled, and the texts of errors, unclear or not."""
    differences = lake_differences(store)
    unclear = [f"{run.args}: {run.stderr[-1500:]}" for run in done if not is_clear(run)]
    errors = [run.stderr.splitlines()[-1] for run in done if run.returncode and is_clear(run)]
    counts = {"lost": differences.lost, "doubled": differences.doubled}
    return counts | {"unclear": unclear, "clear_errors": errors}


@dataclass(frozen=True)
class CommandProcess:
    """A command in a Python process of its own, as users start it."""

    process: subprocess.Popen[bytes]

    def kill_after(self, seconds: float) -> bool:
        """Kill the process `seconds` from now; False if it ended before."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL


Starter = Callable[[FaultShop, tuple[str, ...]], ForkedCommand | CommandProcess]
"""Starts a command that can be killed."""


def measure_kills(
    shop: FaultShop, store: Store, tries: Tries, wanted: int, seed: int, kinds: Sequence[str] = KINDS_OF_KILLS
) -> None:
    """Kill commands until `wanted` were killed before their end, and run each again."""
    seconds: dict[tuple[str, bool], float] = {}
    while sum(entry["killed"] for entry in tries.of("kill")) < wanted:
        number = len(tries.of("kill"))
        kind, in_process = kinds[number % len(kinds)], number % PROCESS_EVERY == PROCESS_EVERY - 1
        run: Starter = run_process if in_process else start_forked
        if (kind, in_process) not in seconds:
            complete = _arguments(shop, store, kind, f"{seed} {number} complete")
            started = time.perf_counter()
            run(shop, complete).kill_after(600)
            seconds[kind, in_process] = time.perf_counter() - started
        arguments = _arguments(shop, store, kind, f"{seed} {number}")
        instant = random.Random(f"{seed} {number}").uniform(0, seconds[kind, in_process])
        was_killed = run(shop, arguments).kill_after(instant)
        pending_windows = pending(store)
        again = run_forked(*arguments, home=shop.home(), variables=shop.variables)
        tries.add(
            "kill",
            seed=f"{seed} {number}",
            kind=kind,
            own_process=in_process,
            after_seconds=round(instant, 3),
            killed=was_killed,
            windows_pending=pending_windows,
            exit_code=again.returncode,
            **outcome(store, [again]),
        )


def _arguments(shop: FaultShop, store: Store, kind: str, seed: str) -> tuple[str, ...]:
    name = f"kill-{seed.replace(' ', '-')}"
    path = shop.event_file(name, seed) if kind == "ingest" else shop.add_windows(store, name, seed)
    return TRAIN if kind == "train" else ("ingest", str(path), "--source", "canonical")


def start_forked(shop: FaultShop, arguments: tuple[str, ...]) -> ForkedCommand:
    """Start a command in a forked process."""
    return ForkedCommand.start(*arguments, home=shop.home(), variables=shop.variables)


def run_process(shop: FaultShop, arguments: tuple[str, ...]) -> CommandProcess:
    """Start a command in a process of its own."""
    command = [sys.executable, "-c", "from retail_core.cli import main; main()", *arguments]
    environment = command_environment(shop.home(), shop.variables)
    nothing = subprocess.DEVNULL
    return CommandProcess(
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=nothing, stderr=nothing)
    )


def measure_pairs(
    shop: FaultShop, store: Store, tries: Tries, wanted: int, seed: int, erase_every: int = ERASE_EVERY
) -> None:
    """Synchronize from two homes at the same time, in every `erase_every`th pair with an erasure."""
    while (number := len(tries.of("pair"))) < wanted:
        erases = number % erase_every == erase_every - 1
        tries.add("pair", seed=f"{seed} {number}", **run_pair(shop, store, number, seed, erases))


def run_pair(shop: FaultShop, store: Store, number: int, seed: int, erases: bool) -> Try:
    """Two ingests of two homes at the same time, with a third one, and an erasure."""
    files = {home: shop.event_file(f"pair-{number}-{home}", f"{seed} {number} {home}") for home in "ab"}
    shop.add_windows(store, f"pair-{number}-before", f"{seed} {number} before")
    running = [
        ForkedCommand.start(
            "ingest", str(path), "--source", "canonical", home=shop.home(name), variables=shop.variables
        )
        for name, path in files.items()
    ]
    if erases:
        user = f"u{random.Random(seed + number).randrange(40)}"
        running.append(
            ForkedCommand.start("user", "delete", user, "--yes", home=shop.home(), variables=shop.variables)
        )
    shop.add_windows(store, f"pair-{number}-during", f"{seed} {number} during")
    done = [command.result() for command in running]
    sync(store)
    codes = [command.returncode for command in done]
    return {"erased": erases, "exit_codes": codes, **outcome(store, done)}


def prepare_scoring(shop: FaultShop, store: Store) -> None:
    """Events with a checkpoint in the log, attributes, links, a registered model, predictions and pins."""
    from retail_core.workspace import Workspace
    from tests.serving import register_shop

    if (shop.folder / "prepared").exists():
        return
    for number in range(24):
        shop.add_windows(store, f"score-{number}", str(number))
        sync(store)
    if not (shop.home() / "mlflow").exists():
        register_shop(shop.settings)
    Workspace(store).lake.pin()
    run_forked(
        "score", *_score_options(shop, "first", store=True), home=shop.home(), variables=shop.variables
    )
    (shop.folder / "prepared").touch()


def _score_options(shop: FaultShop, name: str, *, store: bool = False) -> tuple[str, ...]:
    as_of = START.replace(day=START.day + DAYS).isoformat()
    out = str(shop.folder / f"{name}-scores.csv")
    return ("--as-of", as_of, "--out", out, "--reasons", "0", *(() if store else ("--no-store",)))


def measure_damages(shop: FaultShop, store: Store, tries: Tries, wanted: int) -> None:
    """Damage a copy of the lake in each way, score from it, and compare."""
    kinds = KINDS | {name: (change, "") for name, change in MORE_KINDS.items()}
    tried = {entry["kind"] for entry in tries.of("damage")}
    for kind in [kind for kind in list(kinds)[:wanted] if kind not in tried]:
        damage_lake, sentence = kinds[kind]
        root = shop.folder / "damaged"
        _delete(root)
        shutil.copytree(shop.folder / "lake", root)
        damage_lake(root)
        tries.add("damage", kind=kind, **score_damaged(shop, store, root, sentence))


def score_damaged(shop: FaultShop, store: Store, root: Path, sentence: str) -> Try:
    """Score from the lake at `root`; `named` is whether a line about it has the sentence, empty: any line."""
    scores, expected = (shop.folder / f"{name}-scores.csv" for name in ("damaged", "first"))
    scores.unlink(missing_ok=True)
    variables = shop.variables | {"RETAIL_LAKE": str(root)}
    done = run_forked("score", *_score_options(shop, "damaged"), home=shop.home(), variables=variables)
    copy = Store(store.settings.model_copy(update={"lake": str(root)}), store.client, store.database)
    lines = [line for line in done.stderr.splitlines() if str(root) in line]
    return {
        "exit_code": done.returncode,
        "silently_wrong": done.returncode == 0 and scores.read_bytes() != expected.read_bytes(),
        "named": any(sentence in line for line in lines),
        "lines": lines[:3],
        "repaired": damage(str(root)) == [],
        **outcome(copy, [done]),
    }


def _delete(root: Path) -> None:
    for path in root.rglob("*"):
        path.chmod(0o700)
    if root.exists():
        shutil.rmtree(root)


def summary(tries: Tries) -> dict[str, dict[str, int]]:
    """Counts by part."""
    counts: dict[str, Counter[str]] = {}
    for entry in tries.done:
        if entry.get("killed", True):
            part = counts.setdefault(entry["part"], Counter(tries=0, lost=0, doubled=0, unclear=0))
            part["tries"] += 1
            part["lost"] += entry["lost"]
            part["doubled"] += entry["doubled"]
            part["unclear"] += len(entry["unclear"])
            part["silently_wrong"] += entry.get("silently_wrong", 0)
            part["named"] += entry.get("named", 0)
            part["not_repaired"] += not entry.get("repaired", True)
    return {part: dict(count) for part, count in counts.items()}


@contextmanager
def open_shop(folder: Path, name: str) -> Iterator[tuple[FaultShop, Store]]:
    """A shop below `folder`, on the benchmark's embedded server."""
    below = folder / name
    below.mkdir(parents=True, exist_ok=True)
    shop = FaultShop(below, ensure_mongod(Settings(home=folder / "mongod")), f"faults_{name}")
    with open_store(shop.settings) as store:
        yield shop, store


def main() -> None:
    """Run the missing tries and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--damages", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "retail-faults")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tries = Tries(options.folder / "tries.jsonl")
    trains_or_scores = options.kills or options.damages
    models = ["retail_core.training.pipeline", "retail_core.scoring.scores"] if trains_or_scores else []
    preload(["tests.integration.test_lake_damage", *models])
    try:
        with open_shop(options.folder, "pairs") as (shop, store):
            measure_pairs(shop, store, tries, options.pairs, options.seed)
        with open_shop(options.folder, "kills") as (shop, store):
            measure_kills(shop, store, tries, options.kills, options.seed)
        if options.damages:
            with open_shop(options.folder, "damages") as (shop, store):
                prepare_scoring(shop, store)
                measure_damages(shop, store, tries, options.damages)
    finally:
        stop_mongod(Settings(home=options.folder / "mongod"))
    print(json.dumps(summary(tries)))
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
