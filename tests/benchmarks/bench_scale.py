"""Features, scores and the daily sync of shops with 10 and 100 million events, with time and memory.

    python -m tests.benchmarks.bench_scale [--events 10000000] [--grow users|days] [--folder FOLDER] [--keep]
        [--steps generate,opening,features,predict,score,day,score_next]
    python -m tests.benchmarks.bench_scale --events 20000000 --steps generate,spark

The events are simulated (`scale_shop`) and written directly into the lake (`scale_lake`); a small model is
trained once on a shop of 0.2 million events. 10,000,000 events are 90 days of a shop with some 100,000
eligible users. A multiple of that is reached by as many times the users in the same 90 days (`--grow users`),
or by as many times the days of the same shop (`--grow days`), whose last 90 days are the same.

Each step runs in a process of its own (`scale_phases`), whose wall time, CPU time and peak memory, child
processes included, are measured from outside; those of the embedded `mongod` stand beside them. Results are
stored in FOLDER (default: a folder below the system's temporary one) after each step: a killed run continues
with the step it was killed in, and the history with its next day. The last line is one JSON object. At the
end the lake and the home are deleted, unless `--keep`; the results stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from retail_core.store.mongod.embedded import ensure_mongod, mongod_status, stop_mongod
from tests.benchmarks.process_usage import measure_command
from tests.benchmarks.scale_phases import STEPS, Shop
from tests.benchmarks.scale_shop import ShopSize

BASE_EVENTS, BASE_ARRIVALS, BASE_DAYS = 10_000_000, 5_200, 90
SAMPLE = ("sample", 100, BASE_DAYS)


def shop_of(folder: Path, events: int, grow: str) -> Shop:
    """The shop with about so many events."""
    factor = events / BASE_EVENTS
    arrivals = round(BASE_ARRIVALS * factor) if grow == "users" or factor < 1 else BASE_ARRIVALS
    days = round(BASE_DAYS * factor) if grow == "days" and factor > 1 else BASE_DAYS
    name = f"{events // 1_000_000}m" + ("_days" if days != BASE_DAYS else "")
    return Shop(folder, name, ShopSize(arrivals), days)


class Results:
    """Figures of the finished steps in a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, step: str, figures: dict[str, Any]) -> None:
        """Store the figures of a step."""
        self.steps[step] = figures
        self._path.write_text(json.dumps(self.steps, indent=1))


def run_step(shop: Shop, step: str) -> dict[str, Any]:
    """Figures of one step in a process of its own."""
    ensure_mongod(shop.settings)
    status = mongod_status(shop.settings)
    others = [int(status["pid"])] if status else []
    arguments = ["--folder", shop.folder, "--shop", shop.name, "--arrivals", shop.size.arrivals]
    command = [step, *map(str, [*arguments, "--days", shop.days])]
    usage, figures = measure_command("tests.benchmarks.scale_phases", command, others)
    return {"usage": usage, **figures}


def main() -> None:
    """Run the missing steps and print all figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=BASE_EVENTS)
    parser.add_argument("--grow", choices=["users", "days"], default="users")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "retail-scale")
    parser.add_argument("--steps", default=",".join(step for step in STEPS if step not in {"train", "spark"}))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    shop = shop_of(options.folder, options.events, options.grow)
    results = Results(options.folder / f"{shop.name}.json")
    try:
        if not (options.folder / "sample" / "trained").exists():
            name, arrivals, days = SAMPLE
            results.add("train", run_step(Shop(shop.folder, name, ShopSize(arrivals), days), "train"))
            (options.folder / "sample" / "trained").touch()
        for step in options.steps.split(","):
            if step not in results.steps:
                results.add(step, run_step(shop, step))
                print(step, json.dumps(results.steps[step]), flush=True)
    finally:
        stop_mongod(shop.settings)
    print(json.dumps(results.steps))
    if not options.keep:
        for name in (shop.name, "sample", "home"):
            shutil.rmtree(options.folder / name)


if __name__ == "__main__":
    main()
