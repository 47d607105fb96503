"""Commands of `retail` in forked processes, which can be killed, and what the lake has other than MongoDB."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from deltalake import DeltaTable

from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.table_specs import READ_TABLES, TableSpec
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import read_links
from retail_core.times import from_micros
from tests.command_line import retail
from tests.forked_processes import ForkedProcess, Ready, preload

BUG_EXIT_CODE = 70
"""Of a command that ends with an exception that no edge turned into a sentence."""

preload(
    [
        "tests.forked_commands",
        "retail_core.ingest",
        "retail_core.workspace",
        "retail_core.scoring.shop_context",
        "pymongoarrow.api",
    ]
)


@dataclass(frozen=True)
class ForkedCommand:
    """A running command."""

    arguments: tuple[str, ...]
    running: ForkedProcess

    @classmethod
    def start(cls, *arguments: str, home: Path, variables: Mapping[str, str]) -> ForkedCommand:
        """Start a command; returns when its first line is about to run."""
        return cls(arguments, ForkedProcess.start(_run, arguments, home, dict(variables)))

    def kill_after(self, seconds: float) -> bool:
        """Kill the process `seconds` from now; False if it ended before."""
        return self.running.kill_after(seconds)

    def result(self) -> CompletedProcess[str]:
        """Wait for the end of the command."""
        try:
            code, stdout, stderr = self.running.result()
        except EOFError:
            code, stdout, stderr = BUG_EXIT_CODE, "", "the process ended without a result"
        return CompletedProcess(self.arguments, code, stdout, stderr)


def run_forked(*arguments: str, home: Path, variables: Mapping[str, str]) -> CompletedProcess[str]:
    """Run a command to its end."""
    return ForkedCommand.start(*arguments, home=home, variables=variables).result()


def is_clear(done: CompletedProcess[str]) -> bool:
    """Whether a command succeeded, or ended with one line that has a remedy."""
    if done.returncode == 0:
        return True
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return (
        done.returncode in {1, 3}
        and len(errors) == 1
        and "Remedy: " in errors[0]
        and "Traceback" not in done.stderr
    )


@dataclass(frozen=True)
class LakeDifferences:
    """Rows of MongoDB that the lake does not have, and rows that it has more often, or alone."""

    lost: int
    doubled: int


def lake_differences(store: Store) -> LakeDifferences:
    """Compare events, user attributes and identity links of the lake, as any Delta reader sees them."""
    lost = doubled = 0
    for spec in READ_TABLES:
        stored, in_lake = Counter(_stored_rows(store, spec)), Counter(_lake_rows(store, spec))
        lost += (stored - in_lake).total()
        doubled += (in_lake - stored).total()
    return LakeDifferences(lost, doubled)


def _stored_rows(store: Store, spec: TableSpec) -> Iterable[tuple[object, ...]]:
    if spec.name == "identities":
        return [(link.from_id, link.to_id, from_micros(link.linked_at)) for link in read_links(store)]
    names = ["_id" if name == "event_id" else name for name in spec.keys]
    documents = store.database[spec.name].find({}, dict.fromkeys(names, 1))
    return [tuple(document.get(name) for name in names) for document in documents]


def _lake_rows(store: Store, spec: TableSpec) -> Iterable[tuple[object, ...]]:
    location = LakeLocation(store.settings.lake_url)
    if not location.exists(f"{spec.name}/_delta_log"):
        return []
    names = [*spec.keys, "linked_at"] if spec.name == "identities" else [*spec.keys]
    table = DeltaTable(location.url_of(spec.name)).to_pyarrow_table(columns=names)
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


def _run(
    ready: Ready, arguments: tuple[str, ...], home: Path, variables: Mapping[str, str]
) -> tuple[int, str, str]:
    ready()
    try:
        done = retail(*arguments, home=home, **variables)
    except Exception:  # noqa: BLE001 - a bug, which the test reports
        return BUG_EXIT_CODE, "", traceback.format_exc()
    return done.returncode, done.stdout, done.stderr
