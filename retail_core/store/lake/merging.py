"""Which files of the lake a synchronization writes anew, so that no day has too many of them."""

from __future__ import annotations

from collections.abc import Mapping

from retail_core.store.lake.lake_file import LakeFile

FILES_PER_DAY = 8
"""A sync appends a file to a day; this many small files of a day are written anew as one."""

LARGE_FILE_ROWS = 2_000_000
"""A file with so many rows stays as it is, so that a busy day is not written anew again and again."""

MERGED_ROWS = 10_000_000
"""Rows that one sync writes anew, about: late events may belong to every day of the history."""


def files_to_merge(files_by_day: Mapping[str, list[LakeFile]]) -> dict[str, list[LakeFile]]:
    """For each day the files whose rows go into its new file, those of most files first, up to `MERGED_ROWS`.

    What exceeds the limit is left to later synchronizations of the day.
    """
    small = {
        day: [file for file in files if file.rows < LARGE_FILE_ROWS] for day, files in files_by_day.items()
    }
    merged: dict[str, list[LakeFile]] = {day: [] for day in files_by_day}
    rows = 0
    for day in sorted(small, key=lambda day: -len(small[day])):
        if len(small[day]) < FILES_PER_DAY or rows >= MERGED_ROWS:
            break
        merged[day] = small[day]
        rows += sum(file.rows for file in small[day])
    return merged
