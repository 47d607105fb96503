"""Every kind of damage to the lake is named in one line and repaired by the next command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from retail_core.errors import InputError, IntegrityError
from retail_core.settings import Settings
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.erase import erase_from_lake
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.reader import Lake, LakeState
from retail_core.store.lake.table import damage, rebuild, sync
from retail_core.store.lake.table_specs import EVENTS
from retail_core.store.mongo.connection import Store, open_store
from tests.home_copies import drop_database, new_database_name
from tests.lake_windows import START, event, put

pytestmark = [pytest.mark.integration, pytest.mark.long]

DAYS, WINDOWS = 3, 24
LOG = "events/_delta_log"


@dataclass(frozen=True)
class Shop:
    """A synchronized lake of 24 commits, with a checkpoint, and its state."""

    store: Store
    root: Path
    state: LakeState


@pytest.fixture(scope="module")
def shop(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("damage") / "home"
    settings = Settings(home=home, mongodb_uri=mongod_uri, mongodb_database=new_database_name())
    with open_store(settings) as store:
        link = {"from_id": "u1", "to_id": "u2", "linked_at": START}
        store.identities.insert_one(link | {"_id": "1", "brought": []})
        store.users.insert_one(
            {"_id": "1", "user_id": "u1", "valid_from": START, "attributes": '{"age": 3}', "window_id": 1}
        )
        for window in range(1, WINDOWS + 1):
            numbers = range(window * 400, (window + 1) * 400)
            put(store, window, [event(n, window, day=n % DAYS) for n in numbers], users=window == 1)
            sync(store)
        root = Path(settings.lake_url)
        yield Shop(store, root, Lake(str(root)).state(hashed=True))
    drop_database(settings)


@pytest.fixture
def damaged(shop: Shop, tmp_path: Path) -> Iterator[Store]:
    """The store with a copy of the lake that a test may damage."""
    root = tmp_path / "lake"
    shutil.copytree(shop.root, root)
    store = Store(
        shop.store.settings.model_copy(update={"lake": str(root)}), shop.store.client, shop.store.database
    )
    yield store
    for path in root.rglob("*"):
        path.chmod(0o700)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def event_file(root: Path, number: int = 0) -> Path:
    return Path(Lake(str(root)).files()[number])


def commit_file(root: Path, age: int = 0) -> Path:
    """Of the newest commit, or of an earlier one."""
    return sorted((root / LOG).glob("*.json"))[-1 - age]


def checkpoint(root: Path) -> Path:
    return sorted((root / LOG).glob("*.checkpoint.parquet"))[-1]


def at_bytes(text: bytes) -> Callable[[Path], None]:
    """Flip a bit at the last place where a file of events has `text`."""

    def damage_file(root: Path) -> None:
        path = event_file(root)
        flip(path, path.read_bytes().rindex(text))

    return damage_file


def damage_page(root: Path) -> None:
    path = event_file(root)
    flip(path, pq.read_metadata(path).row_group(0).column(1).data_page_offset + 40)


def damage_middle(root: Path) -> None:
    path = event_file(root)
    flip(path, path.stat().st_size // 2)


def swap_days(root: Path) -> None:
    first, last = event_file(root), event_file(root, -1)
    content = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(content)


def put_older_copy(root: Path) -> None:
    """The content of another version of the same day, with the times of the present file."""
    path = event_file(root)
    status = path.stat()
    older = pq.read_table(path, partitioning=None).slice(0, 10)
    pq.write_table(older, path)
    with path.open("ab") as stream:
        stream.write(b"\0" * max(0, status.st_size - path.stat().st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def zero_fill(path: Path, start: float = 0.0) -> None:
    content = path.read_bytes()
    kept = int(len(content) * start)
    path.write_bytes(content[:kept] + b"\0" * (len(content) - kept))


def put_folder(root: Path) -> None:
    path = event_file(root)
    path.unlink()
    path.mkdir()


def edit_commit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the actions of the newest commit."""

    def edit(root: Path) -> None:
        path = commit_file(root)
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        before = json.dumps(actions)
        for action in actions:
            change(action)
        assert json.dumps(actions) != before
        path.write_text("\n".join(json.dumps(action) for action in actions))

    return edit


def edit_statistics(name: str, value: object) -> Callable[[Path], None]:
    def change(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["stats"] = json.dumps(json.loads(action["add"]["stats"]) | {name: value})

    return edit_commit(change)


def edit_windows(action: dict[str, Any]) -> None:
    if action.get("txn", {}).get("appId") == "windows:0":
        action["txn"]["version"] += 1


def commit_elsewhere(root: Path) -> None:
    """Another program appends its own rows."""
    table = DeltaTable(root / "events").to_pyarrow_table().slice(0, 3)
    from deltalake import write_deltalake

    write_deltalake(root / "events", table, mode="append")


def read_paths(lake: Lake) -> list[str | None]:
    return [*lake.files(), lake.users_file(), lake.identities_file()]


def users_file(root: Path) -> Path:
    path = Lake(str(root)).users_file()
    assert path is not None
    return Path(path)


def identities_file(root: Path) -> Path:
    path = Lake(str(root)).identities_file()
    assert path is not None
    return Path(path)


MISSING, CONTENT, SIZE = "is missing", "has other content than was committed", "bytes instead of"
NO_LOG = "cannot be read"
LATE = {"event_time": "2026-01-01T00:00:00.000Z"}
KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "file deleted": (lambda root: event_file(root).unlink(), MISSING),
    "day deleted": (lambda root: shutil.rmtree(event_file(root).parent), MISSING),
    "file truncated at its end": (lambda root: os.truncate(event_file(root), 1_000), SIZE),
    "file emptied": (lambda root: os.truncate(event_file(root), 0), SIZE),
    "file longer": (lambda root: os.truncate(event_file(root), 99_999), SIZE),
    "file zero-filled": (lambda root: zero_fill(event_file(root)), CONTENT),
    "file zero-filled from the middle": (lambda root: zero_fill(event_file(root), 0.5), CONTENT),
    "bit of a page": (damage_page, CONTENT),
    "bit in the middle": (damage_middle, CONTENT),
    "bit of the header": (lambda root: flip(event_file(root), 1), CONTENT),
    "bit of the footer": (lambda root: flip(event_file(root), -30), CONTENT),
    "bit of the footer's length": (lambda root: flip(event_file(root), -8), CONTENT),
    "bit of the statistics": (at_bytes(b"view_item"), CONTENT),
    "bit of a column's name": (at_bytes(b"event_time"), CONTENT),
    "swapped with another day": (swap_days, ""),
    "older copy restored": (put_older_copy, ""),
    "permissions removed": (lambda root: event_file(root).chmod(0), "cannot be read: Permission denied"),
    "folder in its place": (put_folder, "is not a file"),
    "user attributes: bit": (lambda root: flip(users_file(root), 60), CONTENT),
    "user attributes deleted": (lambda root: users_file(root).unlink(), MISSING),
    "links: bit": (lambda root: flip(identities_file(root), 60), CONTENT),
    "links truncated": (lambda root: os.truncate(identities_file(root), 50), SIZE),
    "newest commit truncated": (lambda root: os.truncate(commit_file(root), 200), NO_LOG),
    "newest commit emptied": (lambda root: os.truncate(commit_file(root), 0), "is empty"),
    "newest commit: other number of rows": (edit_statistics("numRecords", 9), "not what was committed"),
    "newest commit: other time": (
        edit_statistics("maxValues", {"event_time": "2026-01-01T00:00:00Z"}),
        "not what was committed",
    ),
    "newest commit: other windows": (edit_commit(edit_windows), "not what was committed"),
    "newest commit deleted": (lambda root: commit_file(root).unlink(), ""),
    "middle commit deleted": (lambda root: commit_file(root, 1).unlink(), NO_LOG),
    "checkpoint truncated": (lambda root: os.truncate(checkpoint(root), 300), NO_LOG),
    "checkpoint zero-filled": (lambda root: zero_fill(checkpoint(root)), NO_LOG),
    "log of users deleted": (lambda root: shutil.rmtree(root / "users" / "_delta_log"), ""),
    "log deleted": (lambda root: shutil.rmtree(root / LOG), ""),
    "rows of another program": (commit_elsewhere, "not what was committed"),
}
"""How to damage the lake below a folder, and what the sentence about it has; empty where none is certain."""

SILENT = {"newest commit deleted", "log of users deleted", "log deleted"}
"""They leave an earlier version, or none, which is whole: the next synchronization applies the rest again."""


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_and_repaired_by_the_next_sync(
    shop: Shop, damaged: Store, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage_lake, sentence_part = KINDS[kind]
    root = Path(damaged.settings.lake_url)
    damage_lake(root)
    is_harmless = kind in SILENT or (kind == "permissions removed" and os.geteuid() == 0)
    sentences = damage(str(root))
    assert bool(sentences) is not is_harmless
    assert all("\n" not in sentence and sentence_part in sentence for sentence in sentences)
    with caplog.at_level("WARNING"):
        assert sync(damaged) == Lake(str(root)).state()
    assert all(sentence in caplog.text for sentence in sentences)
    assert damage(str(root)) == []
    assert Lake(str(root)).state(hashed=True) == shop.state


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - SILENT))
def test_no_reader_gets_wrong_rows(shop: Shop, damaged: Store, kind: str) -> None:
    """A reader that does not synchronize ends with one line, or reads what was committed."""
    root = Path(damaged.settings.lake_url)
    KINDS[kind][0](root)
    lake = Lake(str(root))
    if kind == "permissions removed" and os.geteuid() == 0:
        assert len(read_paths(lake)) == len(read_paths(Lake(str(shop.root))))
        return
    with pytest.raises(IntegrityError) as caught:
        read_paths(lake)
    assert "\n" not in str(caught.value)
    assert "retail lake rebuild" in caught.value.remedy


def in_metadata(text: bytes, offset: int = 0) -> Callable[[Path], None]:
    """Flip a bit behind `text` in the newest commit that says what the table is."""

    def damage_metadata(root: Path) -> None:
        for path in (root / LOG).glob("*checkpoint*"):
            path.unlink()
        path = max(path for path in (root / LOG).glob("*.json") if b'"metaData"' in path.read_bytes())
        flip(path, path.read_bytes().index(text) + offset)

    return damage_metadata


@pytest.mark.parametrize(
    "damage_log",
    [in_metadata(b'"retail.format":"2"', 17), in_metadata(b"string")],
    ids=["number of the format", "type of a column"],
)
def test_a_log_that_names_a_newer_release_through_damage_is_rebuilt_as_the_remedy_says(
    shop: Shop, damaged: Store, damage_log: Callable[[Path], None]
) -> None:
    root = Path(damaged.settings.lake_url)
    damage_log(root)
    with pytest.raises(InputError, match="newer release") as caught:
        rebuild(damaged)
    assert "delete it, and `retail lake rebuild`" in caught.value.remedy
    shutil.rmtree(root / "events")
    rebuild(damaged)
    assert damage(str(root)) == []
    assert Lake(str(root)).state(hashed=True) == shop.state


def test_a_file_that_was_verified_is_read_again_after_it_has_changed(shop: Shop, damaged: Store) -> None:
    """Also if its size and its time of modification are the same."""
    root = Path(damaged.settings.lake_url)
    path = event_file(root)
    status = path.stat()
    damage_page(root)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    day = START + timedelta(days=DAYS)
    with pytest.raises(IntegrityError, match=path.name):
        Lake(str(root)).files(None, day)
    assert rebuild(damaged) == Lake(str(root)).state()
    assert Lake(str(root)).state(hashed=True) == shop.state


def test_an_erasure_from_a_damaged_table_empties_it(damaged: Store, caplog: pytest.LogCaptureFixture) -> None:
    root = Path(damaged.settings.lake_url)
    damage_page(root)
    erase_from_lake(damaged.settings, "u1")
    assert "The table is emptied" in caplog.text
    table = LakeTable.open(LakeLocation(str(root)), EVENTS)
    assert table is not None
    assert table.files == ()
    assert list((root / "events").rglob("*/*.parquet")) == list((root / LOG).glob("*.parquet"))
