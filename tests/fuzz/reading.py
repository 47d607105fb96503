"""Read a malformed file as the commands do, and say what went wrong."""

from __future__ import annotations

import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retail_core import sources
from retail_core.errors import RetailError
from retail_core.sources.detection import detect
from tests.fuzz.damage import damage
from tests.fuzz.valid_files import VALID, valid_file

SECONDS = 20
"""A file that takes longer counts as a hang."""


class HangError(Exception):
    """Reading did not end in time."""


def write_malformed(folder: Path, seed: int) -> tuple[Path, str]:
    """A malformed file of that seed, and the preset that it is read with."""
    generator = random.Random(seed)
    name = generator.choice(sorted(VALID))
    path = folder / name
    path.write_bytes(damage(valid_file(name, generator), generator))
    return path, VALID[name][0]


def fault_of(path: Path, preset: str) -> str | None:
    """What is wrong with reading the file: a crash, a hang or rows that do not add up; None: nothing."""
    try:
        with _time_limit():
            return _unclear(lambda: _read(path, preset)) or _unclear(lambda: detect(path).document())
    except HangError:
        return f"hang: not read in {SECONDS} s"
    except Exception:  # noqa: BLE001 - which one is what is found out
        return f"crash: {traceback.format_exc(limit=-3)}"


def _unclear(read: Callable[[], object]) -> str | None:
    """What is wrong with the error of `read`, if it ends with one that is to be shown to a person."""
    try:
        read()
    except RetailError as error:
        is_clear = error.message and error.remedy and "\n" not in error.message
        return None if is_clear else f"unclear: {error.message!r}, {error.remedy!r}"
    return None


def _read(path: Path, preset: str) -> None:
    """Parse all windows and check that their rows add up."""
    for chunk in sources.read_events(path, sources.get_preset(preset)):
        lines = {*chunk.lines.tolist(), *(refusal.line for refusal in chunk.refused)}
        assert chunk.rows_read == len(chunk.events) + len(chunk.refused)
        assert all(chunk.first <= line <= chunk.last for line in lines), "a line is outside its window"
        assert len(chunk.events) == len(chunk.lines) == len(chunk.source_ids)
        for row in range(min(len(chunk.events), 3)):
            chunk.raw(row)


@contextmanager
def _time_limit() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise HangError

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
