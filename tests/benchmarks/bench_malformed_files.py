"""Read malformed files in this process: crashes, hangs, and rows that do not add up.

    python -m tests.benchmarks.bench_malformed_files --out FILE [--files 20000] [--first 0]

Files of eleven sources and formats are damaged by seed (`tests/fuzz`), parsed with their preset as `retail
ingest` does before it stores anything, and given to `retail sources detect`. A line is appended to FILE for
every 500 files, and these are not repeated, so that an interrupted run continues. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.reading import fault_of, write_malformed

BATCH = 500


def main() -> None:
    """Read, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    for first in range(options.first, options.first + options.files, BATCH):
        if first not in _done(options.out):
            count = min(BATCH, options.first + options.files - first)
            _append(options.out, _read_batch(first, count))
    done = _done(options.out).values()
    print(json.dumps({
        "files": sum(entry["files"] for entry in done),
        "seconds": round(sum(entry["seconds"] for entry in done)),
        "slowest": max(entry["slowest"] for entry in done),
        "faults": {seed: fault for entry in done for seed, fault in entry["faults"].items()},
    }))  # fmt: skip


def _read_batch(first: int, count: int) -> dict[str, object]:
    faults, started, slowest = {}, time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            path, preset = write_malformed(Path(folder), seed)
            begun = time.perf_counter()
            if fault := fault_of(path, preset):
                faults[seed] = f"{path.name}: {fault}"
            slowest = max(slowest, time.perf_counter() - begun)
    seconds = time.perf_counter() - started
    entry = {"first": first, "files": count, "seconds": seconds, "slowest": round(slowest, 2)}
    return entry | {"faults": faults}


def _append(out: Path, entry: dict[str, object]) -> None:
    with out.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")
    print(f"from {entry['first']}: {entry['faults']}", file=sys.stderr, flush=True)


def _done(out: Path) -> dict[int, dict[str, object]]:  # type: ignore[type-arg]
    lines = out.read_text().splitlines() if out.is_file() else []
    return {entry["first"]: entry for entry in map(json.loads, lines)}


if __name__ == "__main__":
    main()
