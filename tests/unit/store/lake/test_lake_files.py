"""Parts of the lake that need no database: files, commits, the spool by day, applied windows."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from retail_core.errors import InputError, RetailError
from retail_core.schemas import EVENT_ARROW, EVENT_COLUMNS
from retail_core.store.lake.applied_windows import (
    add_to_ranges,
    changed_versions,
    contiguous,
    has_window,
    read_ranges,
)
from retail_core.store.lake.commit_attempts import CommitConflict
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.lake_file import DamagedFileError
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import Rows, user_rows, write_file
from retail_core.store.lake.rows import Spool
from retail_core.store.lake.table_specs import EVENTS

DAY = "2025-01-01"
START = datetime(2025, 1, 1, tzinfo=UTC)


def _table(numbers: list[int]) -> pa.Table:
    rows = [
        {
            "event_id": f"{number:032x}",
            "user_id": f"u{number % 7}",
            "event_time": START + timedelta(milliseconds=number * 997 % 86_400_000),
            "event_type": "view_item",
            "properties": "{}",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in EVENT_COLUMNS} for row in rows], EVENT_ARROW
    )


@pytest.fixture
def events(tmp_path: Path) -> LakeTable:
    return LakeTable.create(LakeLocation(str(tmp_path / "lake")), EVENTS)


def _add(table: LakeTable, numbers: list[int], applied: tuple[tuple[int, int], ...] = ()) -> LakeTable:
    file = write_file(table, Rows([_table(numbers)]), (DAY,))
    assert file is not None
    return table.commit([file], transactions=changed_versions(table.applied, applied))


def _numbers(table: LakeTable) -> list[int]:
    read = pa.concat_tables([pq.ParquetFile(table.url_of(file)).read() for file in table.files])
    return sorted(int(key, 16) for key in read["event_id"].to_pylist())


def test_a_large_day_is_written_in_user_ranges_with_the_same_result(events: LakeTable) -> None:
    old = _add(events, list(range(0, 900, 2))).files
    rows = Rows([_table(list(range(1, 500))), _table(list(range(500, 1_000)))], old)
    single = write_file(events, rows, (DAY,))
    in_ranges = write_file(events, rows, (DAY,), range_bytes=20_000)
    assert single is not None
    assert in_ranges is not None
    assert (single.rows, single.first, single.last) == (in_ranges.rows, in_ranges.first, in_ranges.last)
    files = [pq.ParquetFile(events.url_of(file)) for file in (single, in_ranges)]
    assert files[0].read().equals(files[1].read())
    assert files[1].num_row_groups > files[0].num_row_groups
    without = write_file(events, Rows(files=[single], without_user="u3"), (DAY,))
    assert without is not None
    assert without.rows == sum(number % 7 != 3 for number in range(1_000))
    assert user_rows(events, without, "u3") == 0


def test_a_commit_on_an_earlier_version_is_refused_and_leaves_no_file(events: LakeTable) -> None:
    stale = LakeTable.open(events.location, EVENTS)
    assert stale is not None
    newest = _add(events, [1, 2], ((1, 1),))
    with pytest.raises(CommitConflict):
        _add(stale, [3], ((2, 2),))
    assert _numbers(newest) == [1, 2]
    assert len(list(Path(events.location.path_of("events")).rglob("*.parquet"))) == 1
    opened = LakeTable.open(events.location, EVENTS)
    assert opened is not None
    assert (opened.applied, opened.files, opened.rows) == (((1, 1),), newest.files, 2)


def test_files_of_a_writer_are_not_deleted_under_it(events: LakeTable) -> None:
    """A writer that has opened the table before unreferenced files are deleted starts again."""
    writer = LakeTable.open(events.location, EVENTS)
    assert writer is not None
    file = write_file(writer, Rows([_table([1])]), (DAY,))
    assert file is not None
    after = events.delete_unreferenced(0)
    assert not Path(writer.url_of(file)).exists()
    with pytest.raises(CommitConflict):
        writer.commit([file])
    assert _numbers(_add(after, [2])) == [2]


def test_superseded_files_are_kept_for_readers_and_strays_are_not(events: LakeTable) -> None:
    first = _add(events, [1])
    stray = write_file(first, Rows([_table([3])]), (DAY,))
    assert stray is not None
    file = write_file(first, Rows([_table([2])], first.files), (DAY,))
    assert file is not None
    kept = first.commit([file], first.files).delete_unreferenced(1)
    assert _numbers(first) == [1]
    assert Path(first.url_of(stray)).exists()
    tidied = kept.delete_unreferenced(1, stray_hours=0)
    assert _numbers(first) == [1]
    assert not Path(first.url_of(stray)).exists()
    last = tidied.delete_unreferenced(0)
    assert not Path(first.url_of(first.files[0])).exists()
    assert _numbers(last) == [1, 2]
    assert last.delete_unreferenced(0) is last


def test_every_page_has_a_checksum(events: LakeTable) -> None:
    """Readers of an object store verify them; this program checks a local file as a whole."""
    table = _add(events, list(range(2_000)))
    path = Path(table.url_of(table.files[0]))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.read_table(path, page_checksum_verification=True)
    with pytest.raises(DamagedFileError, match=r"other content than was committed.*lake rebuild"):
        write_file(table, Rows(files=table.files), (DAY,))


def test_damaged_files_are_named(events: LakeTable) -> None:
    for number in range(5):
        events = _add(events, [number])
    missing, cut, torn, taken, whole = (Path(events.url_of(file)) for file in events.files)
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:-9])
    torn.write_bytes(b"x" * torn.stat().st_size)
    taken.unlink()
    taken.mkdir()
    sentences = list(events.damaged_files().values())
    expected = ["is missing", "bytes instead of", "has other content than was committed", "is not a file"]
    paths = (missing, cut, torn, taken)
    for path, ending, sentence in zip(paths, expected, sentences, strict=True):
        assert sentence.startswith(f"{path} ")
        assert ending in sentence
    assert events.urls_of(events.files[-1:]) == [str(whole)]
    with pytest.raises(DamagedFileError, match="is missing"):
        events.urls_of(events.files)


@pytest.mark.parametrize("commits", [3, 23])
def test_no_flipped_bit_of_a_log_changes_what_is_read(
    events: LakeTable, tmp_path: Path, commits: int
) -> None:
    """Either the log says the same (the bit is not used), or the table is refused in one line."""
    for number in range(commits):
        events = _add(events, [number], ((1, number + 1),))
    log = tmp_path / "lake" / "events" / "_delta_log"
    generator, refusals = random.Random(commits), []
    for path in [path for path in sorted(log.iterdir()) if path.is_file()][-4:]:
        content = path.read_bytes()
        for _ in range(8):
            damaged = bytearray(content)
            damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged)
            try:
                opened = LakeTable.open(events.location, EVENTS)
            except RetailError as error:
                refusals.append(error.message)
            else:
                assert opened is not None
                assert (opened.files, opened.applied) == (events.files, events.applied)
        path.write_bytes(content)
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_the_log_has_no_values_of_columns_with_ids(events: LakeTable) -> None:
    """Neither commits nor checkpoints; only the time has statistics, which prune files."""
    for number in range(45):
        events = _add(events, [number], ((1, number + 1),))
    log = Path(events.location.path_of("events/_delta_log"))
    assert list(log.glob("*.checkpoint.parquet"))
    for path in log.iterdir():
        is_checkpoint = path.suffix == ".parquet"
        text = json.dumps(pq.read_table(path).to_pylist(), default=str) if is_checkpoint else path.read_text()
        assert "u3" not in text
        assert "view_item" not in text
    opened = LakeTable.open(events.location, EVENTS)
    assert opened is not None
    assert opened.applied == ((1, 45),)
    assert [file.first for file in opened.files] == [file.last for file in opened.files]


def test_any_delta_reader_sees_the_rows(events: LakeTable) -> None:
    table = _add(_add(events, list(range(50))), list(range(50, 90)))
    delta = DeltaTable(table.location.url_of("events"))
    read = delta.to_pyarrow_table()
    assert sorted(int(key, 16) for key in read["event_id"].to_pylist()) == list(range(90))
    assert set(read["day"].to_pylist()) == {date.fromisoformat(DAY)}
    assert len(delta.file_uris(file_pruning_predicate=f"day = '{DAY}'")) == 2
    assert delta.file_uris(file_pruning_predicate="day = '2025-01-02'") == []


def test_a_table_of_a_newer_release_is_refused_in_one_line(events: LakeTable) -> None:
    delta = DeltaTable(events.location.url_of("events"))
    delta.alter.set_table_properties({"retail.format": "3"}, raise_if_not_exists=False)
    with pytest.raises(InputError, match=r"newer release \(format 3\)") as caught:
        LakeTable.open(events.location, EVENTS)
    assert "\n" not in str(caught.value)
    first = Path(events.location.path_of("events/_delta_log/00000000000000000000.json"))
    first.write_text(first.read_text().replace('{"minReaderVersion":1,', '{"minReaderVersion":99,'))
    with pytest.raises(InputError, match="newer release") as caught:
        LakeTable.open(events.location, EVENTS)
    assert "\n" not in str(caught.value)


def test_a_spool_returns_the_same_tables_from_memory_and_from_disk(tmp_path: Path) -> None:
    tables = [_table(list(range(start, start + 100))) for start in range(0, 500, 100)]
    shifted = [
        table.set_column(2, EVENT_ARROW.field(2), pa.array(
            [t + timedelta(days=n % 3) for n, t in enumerate(table["event_time"].to_pylist())],
            EVENT_ARROW.field(2).type,
        ))
        for table in tables
    ]  # fmt: skip
    results = []
    for spill_bytes in (1, 30_000, 10**9):
        with Spool(tmp_path / "spool", spill_bytes=spill_bytes) as spool:
            for table in shifted:
                spool.add(table)
            days = spool.days()
            merged = {day: pa.concat_tables(spool.tables(day)).sort_by("event_id") for day in days}
            results.append({day: table.combine_chunks() for day, table in merged.items()})
    assert list(results[0]) == ["2025-01-01", "2025-01-02", "2025-01-03"]
    assert sum(len(table) for table in results[0].values()) == 500
    for result in results[1:]:
        assert all(result[day].equals(results[0][day]) for day in results[0])
    assert not (tmp_path / "spool").exists()


@given(st.lists(st.sets(st.integers(1, 40)), max_size=5))
def test_ranges_contain_exactly_the_added_numbers(groups: list[set[int]]) -> None:
    ranges: tuple[tuple[int, int], ...] = ()
    for group in groups:
        ranges = add_to_ranges(ranges, group)
    numbers = [number for first, last in ranges for number in range(first, last + 1)]
    assert numbers == sorted(set().union(*groups))
    assert all(after - before > 1 for (_, before), (after, _) in pairwise(ranges))


@given(st.lists(st.sets(st.integers(1, 40)), min_size=1, max_size=6))
def test_ranges_survive_storage_as_application_transactions(groups: list[set[int]]) -> None:
    """A transaction keeps its newest version only; each commit writes the ids that change."""
    stored: dict[str, int] = {}
    ranges: tuple[tuple[int, int], ...] = ()
    gaps = 1
    for group in groups:
        after = add_to_ranges(ranges, group)
        versions = changed_versions(ranges, after)
        assert "windows:0" in versions
        stored |= versions
        ranges, gaps = after, max(gaps, len(after))
        assert read_ranges(stored.get) == ranges
        assert contiguous(ranges) == next(n for n in range(41 + 1) if not has_window(ranges, n + 1))
    assert len(stored) == gaps
    stored |= changed_versions(ranges, ())
    assert read_ranges(stored.get) == ()


@pytest.mark.parametrize("name", ["a[b", "a]", "a|b", "a^b", "a`b", "a\\b", "a%20b"])
def test_a_folder_that_delta_rs_cannot_open_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="delta-rs cannot open") as caught:
        LakeLocation(str(tmp_path / name))
    assert "RETAIL_LAKE" in caught.value.remedy


@pytest.mark.parametrize(
    "name", ["50% off", "a?b", "a#b", "*", "ü", "{a}", "a b", "'\"", "a&b;c=d", "a:b", "<>"]
)
def test_a_folder_with_special_characters_is_read_and_written(tmp_path: Path, name: str) -> None:
    table = LakeTable.create(LakeLocation(str(tmp_path / name)), EVENTS)
    assert LakeTable.open(table.location, EVENTS) is not None
    assert [path.name for path in tmp_path.iterdir()] == [name]
