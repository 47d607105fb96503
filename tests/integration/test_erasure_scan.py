"""After the life of a home, with commands killed in the middle, an erased user is in no decoded content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from tests.command_line import retail, store_variables
from tests.home_copies import drop_database
from tests.killed_commands import run_until_killed
from tests.run_folder import shared_run_folder
from tests.serving import AS_OF, Shop
from tests.stored_traces import stored_traces

pytestmark = [pytest.mark.integration, pytest.mark.long]

USER, ANONYMOUS, OTHER = "zz-erased-person-7f3a", "zz-erased-visitor-91cc", "zz-other-person-5d02"
ERASED = (USER, ANONYMOUS)


@dataclass(frozen=True)
class Life:
    """A home that has been used, and where its commands may have left files."""

    settings: Settings
    out: Path
    temporary: Path
    mongod_log: Path

    @property
    def variables(self) -> dict[str, str]:
        return store_variables(self.settings) | {"TMPDIR": str(self.temporary)}

    def run(self, *command: str) -> dict[str, Any]:
        done = retail(*command, "--json", home=self.settings.home_dir, **self.variables)
        assert done.returncode == 0, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    def killed(self, call: str, *command: str) -> None:
        home = self.settings.home_dir
        run_until_killed(call, *command, "--json", home=home, variables=self.variables)

    def traces(self, *ids: str) -> list[str]:
        folders = (self.settings.home_dir, self.out, self.temporary, self.mongod_log)
        return stored_traces(self.settings, ids, *folders)


def event_lines() -> str:
    lines = ["user_id,anonymous_id,event_time,event_type,item_id,price,currency"]
    for day in range(1, 20):
        time = AS_OF - timedelta(days=day, hours=2)
        for user, visitor in ((USER, ANONYMOUS), (OTHER, "")):
            lines.append(f"{user},{visitor},{at(time)},view_item,i1,,")
            lines.append(f"{user},,{at(time + timedelta(minutes=5))},purchase,i1,5.00,EUR")
        lines.append(f",{ANONYMOUS},{at(time - timedelta(hours=3))},search,,,")
    lines += [f"{user},,soon,view_item,i1,," for user in (USER, OTHER)]
    return "\n".join(lines) + "\n"


def at(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def life(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Ingested, trained, scored and backed up, each also killed in the middle; lists and outcomes stored."""
    folder = tmp_path_factory.mktemp("life")
    log = shared_run_folder(tmp_path_factory) / "mongod" / "mongo"
    life = Life(shop.settings, folder / "out", folder / "tmp", log)
    life.out.mkdir()
    life.temporary.mkdir()
    (folder / "log.csv").write_text(event_lines())
    as_of, out = ("--as-of", at(AS_OF)), ("--out", str(life.out / "scores.csv"))
    train = ("train", "--model", "logistic", "--cutoffs", "daily", *as_of)
    lake, cut = (
        "retail_core.store.lake.delta_table:LakeTable.commit",
        "retail_core.model.leakage.future_removal",
    )
    life.killed("retail_core.store.mongo.ledger:commit_window", "ingest", str(folder / "log.csv"))
    life.run("ingest", str(folder / "log.csv"))
    life.killed(lake, "lake", "rebuild")
    life.killed(f"{cut}:compute_features", *train)
    life.run(*train)
    life.killed(lake, "score", *as_of, *out)
    life.killed("os:fsync", "score", *as_of, *out, "--no-store")
    life.run("score", "--as-of", at(AS_OF - timedelta(days=2)))
    life.run("score", *as_of, *out)
    life.run("audience", "--budget", "5000", *as_of, "--out", str(life.out / "audience.csv"))
    life.run("outcomes", *as_of)
    life.killed("retail_core.backup.backup_manifest:Manifest.write", "backup", str(life.out / "backup"))
    for file in ("scores.csv", "audience.csv"):
        (life.out / file).unlink()
    yield life
    drop_database(shop.settings)


def test_an_erased_user_is_in_no_decoded_content(life: Life) -> None:
    before = life.traces(*ERASED)
    places = {place.partition("/")[0] for place in before}
    assert {"events", "predictions", "audiences", "quarantine", "identities", "outcomes"} <= places
    others = life.traces(OTHER)
    deleted = life.run("user", "delete", ANONYMOUS, "--yes")
    assert set(deleted["ids"]) == set(ERASED)
    assert life.traces(*ERASED) == []
    with open_store(life.settings) as store:
        assert store.events.count_documents({"user_id": OTHER}) == 38
    assert {place.partition("/")[0] for place in others if ":" not in place} <= {
        place.partition("/")[0] for place in life.traces(OTHER)
    } | {".backup.part", "tmp"}
