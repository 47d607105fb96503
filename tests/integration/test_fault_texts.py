"""Every command on a faulty home does its work or ends with one line, and `retail doctor` finds the fault.

The home's path has `%` and `?`. A command that is added has to be listed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from pymongo import MongoClient

from retail_core.cli.app import app
from retail_core.registry import artifact_locations
from retail_core.settings import Settings
from retail_core.stack import doctor
from tests.command_line import retail, store_variables
from tests.examples import examples
from tests.forked_commands import ForkedCommand, is_clear
from tests.full_disks import fill
from tests.home_copies import copy_home, drop_database
from tests.serving import AS_OF, Shop

pytestmark = [pytest.mark.integration, pytest.mark.long]

FOLDER = "50% off?"
T = AS_OF.isoformat()
COMMANDS = (
    *("models list", "models show 1", "models history", "models attempts", "models reproduce 1"),
    *("status", "config", "calendar show", "alerts list", "keys list", "quarantine list", "user show u1"),
    *("data check", "sources detect {log}", f"features --as-of {T} --out {{out}}/features.parquet"),
    *("quarantine export {out}/refused.csv", "quarantine replay", "ingest {log}", "ingest undo {log}"),
    *(f"score --as-of {T} --out {{out}}/scores.csv", f"audience --budget 5 --as-of {T} --out {{out}}/a.csv"),
    *(f"outcomes --as-of {T}", f"monitor --as-of {T}", f"train --as-of {T} --model logistic --cutoffs daily"),
    *(f"retrain --as-of {T}", "models promote 1", "models rollback", "models recalibrate 1", "models shadow"),
    *("campaign list", f"campaign plan spring --budget 5 --as-of {T} --out {{out}}/c.csv"),
    *("campaign sent spring", "campaign report spring", "campaign consent {log}"),
    *("alerts test", "calendar set {calendar}", "calendar clear", "backup {out}/backup"),
    *(
        "user delete u2 --yes",
        "lake rebuild",
        "keys add crm --scope predict",
        "keys remove crm",
        "doctor --deep",
    ),
)
VERDICTS = ("doctor", "models reproduce")
"""Commands that report what they found about a fault, by exit code 1, instead of failing by it."""

OTHERS = {
    "demo": "runs the commands above",
    "simulate": "uses no home",
    "restore": "of an empty home",
    "serve": "replaces this process",
    "up": "starts services",
    "down": "of services",
    "rotate-key": "of the embedded server",
    "doctor": "tested for each fault",
}


@dataclass(frozen=True)
class Home:
    """A home with a fault."""

    settings: Settings
    out: Path
    log: Path

    @property
    def registry(self) -> Path:
        return self.settings.home_dir / "mlflow" / "mlflow.db"

    @property
    def variables(self) -> dict[str, str]:
        return store_variables(self.settings)

    def run(self, command: str) -> str | None:
        """Why a command did not end clearly; None if it did."""
        names = {"out": self.out, "log": self.log, "calendar": self.out / "calendar.csv"}
        arguments = [part.format(**names) for part in command.split()]
        try:
            done = retail(*arguments, "--json", home=self.settings.home_dir, **self.variables)
        except Exception:  # noqa: BLE001 - a bug, which the test reports
            return traceback.format_exc()[-600:]
        json.loads(done.stdout)
        is_verdict = command.startswith(VERDICTS) and done.returncode == 1 and "Traceback" not in done.stderr
        return None if is_verdict or is_clear(done) else f"exit code {done.returncode}: {done.stderr[-600:]}"


@pytest.fixture
def home(shop: Shop, tmp_path: Path) -> Iterator[Home]:
    folder = tmp_path / FOLDER
    folder.mkdir()
    copy = copy_home(shop.settings, folder / "home")
    out, log = folder / "out", folder / "log.csv"
    out.mkdir()
    header, *lines = shop.log.read_text().splitlines()
    log.write_text("\n".join([header, *lines[:20]]) + "\n")
    (out / "calendar.csv").write_text("start,end,kind,note\n2025-01-10,2025-01-11,sale,x\n")
    yield Home(copy, out, log)
    drop_database(copy)


@contextmanager
def database(home: Home) -> Iterator[Any]:
    assert home.settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(home.settings.mongodb_uri.get_secret_value())
    with client:
        yield client[home.settings.mongodb_database]


def zero_registry(home: Home) -> None:
    content = home.registry.read_bytes()
    home.registry.write_bytes(content[:4096] + b"\0" * (len(content) - 4096))


@contextmanager
def locked_registry(home: Home) -> Iterator[None]:
    with closing(sqlite3.connect(home.registry)) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifact_locations, "_WAIT_SECONDS", 0.1)
        connection.execute("BEGIN EXCLUSIVE")
        yield


def spec_file(home: Home) -> Path:
    (path,) = (
        path for path in (home.settings.home_dir / "mlflow").rglob("spec.json") if "models" in path.parts
    )
    return path


def other_shape(kind: str, update: dict[str, Any]) -> Callable[[Home], None]:
    def change(home: Home) -> None:
        with database(home) as collections:
            assert collections["ingest_ledger"].update_one({"kind": kind}, update).matched_count

    return change


def put_promotion(home: Home) -> None:
    with database(home) as collections:
        collections["promotions"].insert_one({"_id": 99, "kind": "promote", "version": 3, "at": "soon"})


def damage_log_of_lake(home: Home) -> None:
    newest = max((Path(home.settings.lake_url) / "events" / "_delta_log").glob("*.json"))
    newest.write_text("{")


@contextmanager
def full_disk(home: Home) -> Iterator[None]:
    """The home is a file system in memory with no space left."""
    place, original = home.settings.home_dir, home.settings.home_dir.with_name("original")
    place.rename(original)
    place.mkdir()
    megabytes = sum(path.stat().st_size for path in original.rglob("*")) // 1_000_000 + 4
    options = f"size={megabytes}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        shutil.copytree(original, place, dirs_exist_ok=True)
        fill(place)
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


FAULTS: dict[str, tuple[Callable[[Home], Any], str | None]] = {
    "registry is no database": (lambda home: home.registry.write_bytes(b"x" * 9_999), "mlflow"),
    "registry zero-filled": (zero_registry, "mlflow"),
    "registry locked": (locked_registry, "mlflow"),
    "spec truncated": (lambda home: os.truncate(spec_file(home), 99), "champion"),
    "spec of another shape": (lambda home: spec_file(home).write_text("[]"), "champion"),
    "window's counts missing": (other_shape("window", {"$unset": {"counts": 1}}), "ledger"),
    "window's id is text": (other_shape("window", {"$set": {"window_id": "1"}}), "ledger"),
    "window's file missing": (other_shape("window", {"$unset": {"file_id": 1, "file": 1}}), None),
    "file of another shape": (other_shape("file", {"$set": {"path": 3, "sha256": None, "at": "soon"}}), None),
    "promotion of another shape": (put_promotion, "promotion record"),
    "log of the lake damaged": (damage_log_of_lake, "lake"),
    "full disk": (full_disk, None),
}
"""Each fault, and the check of `retail doctor --deep` that finds it."""


def leaves(command: Any, path: str = "") -> Iterator[str]:
    for name, part in command.commands.items():
        full = f"{path} {name}".strip()
        yield from leaves(part, full) if hasattr(part, "commands") else [full]


def test_every_command_is_listed() -> None:
    listed = {command.split(" --")[0] for command in COMMANDS} | OTHERS.keys()
    missing = [
        name
        for name in leaves(typer.main.get_command(app))
        if not any(f"{item} ".startswith(f"{name} ") for item in listed)
    ]
    assert missing == []


def commands_for(fault: str) -> tuple[str, ...]:
    """A quarter of the commands, another one for each fault; all of them in nightly runs."""
    return COMMANDS if examples(1) > 1 else COMMANDS[[*FAULTS].index(fault) % 4 :: 4]


@pytest.mark.parametrize("fault", FAULTS)
def test_commands_are_clear_on_a_faulty_home(home: Home, fault: str) -> None:
    damage, check = FAULTS[fault]
    with ExitStack() as stack, contextlib.chdir(home.out):
        damaged = damage(home)
        if hasattr(damaged, "__enter__"):
            stack.enter_context(damaged)
        failed = {
            found["name"]: found for found in doctor(home.settings, deep=True) if found["state"] == "fail"
        }
        unclear = {
            command: reason for command in commands_for(fault) if (reason := home.run(command)) is not None
        }
    assert unclear == {}
    assert check is None or any(name.startswith(check) for name in failed), failed
    assert all(found["remedy"] and "\n" not in found["what"] for found in failed.values())


@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_an_erasure_beside_a_scoring_is_clear_and_complete(home: Home, shop: Shop, seconds: float) -> None:
    user, variables = str(shop.scores["user_id"][0]), home.variables
    place = home.settings.home_dir
    scoring = ForkedCommand.start("score", "--as-of", T, "--json", home=place, variables=variables)
    time.sleep(seconds)
    deleting = ForkedCommand.start("user", "delete", user, "--yes", "--json", home=place, variables=variables)
    for done in (scoring.result(), deleting.result()):
        assert is_clear(done), done
    again = retail("user", "delete", user, "--yes", "--json", home=place, **variables)
    assert again.returncode == 0, again.stderr
    shown = json.loads(retail("user", "show", user, "--json", home=place, **variables).stdout)
    assert not [name for name, count in shown.items() if isinstance(count, int) and count], shown
