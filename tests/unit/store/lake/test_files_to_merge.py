"""Which files of a day a synchronization writes anew: bounded, however large the day or the history."""

from __future__ import annotations

from retail_core.store.lake.lake_file import LakeFile
from retail_core.store.lake.merging import FILES_PER_DAY, LARGE_FILE_ROWS, MERGED_ROWS, files_to_merge


def files(count: int, rows: int) -> list[LakeFile]:
    return [LakeFile(f"{rows}-{number}.parquet", rows, rows) for number in range(count)]


def test_a_day_is_merged_once_it_has_enough_files() -> None:
    few, enough = files(FILES_PER_DAY - 1, 10), files(FILES_PER_DAY, 10)
    assert files_to_merge({"few": few, "enough": enough, "new": []}) == {
        "few": [],
        "enough": enough,
        "new": [],
    }


def test_large_files_stay_as_they_are() -> None:
    large, small = files(20, LARGE_FILE_ROWS), files(FILES_PER_DAY, 10)
    assert files_to_merge({"day": large}) == {"day": []}
    assert files_to_merge({"day": large + small[1:]}) == {"day": []}
    assert files_to_merge({"day": large + small}) == {"day": small}


def test_one_sync_merges_a_limited_number_of_rows_and_later_ones_the_rest() -> None:
    rows = MERGED_ROWS // FILES_PER_DAY // 2
    days = {f"day {number}": files(FILES_PER_DAY, rows) for number in range(5)} | {
        "most files": files(FILES_PER_DAY + 1, rows)
    }
    rounds = []
    while any((merged := files_to_merge(days)).values()):
        rounds.append({day for day, present in merged.items() if present})
        days = {day: [] if merged[day] else present for day, present in days.items()}
    assert [len(merged) for merged in rounds] == [2, 2, 2]
    assert "most files" in rounds[0]
