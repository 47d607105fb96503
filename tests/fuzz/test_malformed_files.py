"""A bounded share of the malformed files; `bench_malformed_files` reads more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from retail_core import sources
from tests.fuzz.reading import fault_of, write_malformed
from tests.fuzz.valid_files import VALID, valid_file


@pytest.mark.parametrize("name", sorted(VALID))
def test_the_undamaged_files_are_read_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(valid_file(name, random.Random(1)))
    chunks = list(sources.read_events(path, sources.get_preset(VALID[name][0])))
    assert sum(len(chunk.events) for chunk in chunks) > 1
    assert fault_of(path, VALID[name][0]) is None


def test_malformed_files_are_read_or_refused_in_words(tmp_path: Path) -> None:
    faults = {}
    for seed in range(100):
        path, preset = write_malformed(tmp_path, seed)
        if fault := fault_of(path, preset):
            faults[seed] = f"{path.name}: {fault}"
    assert not faults
