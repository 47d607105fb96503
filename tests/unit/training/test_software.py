"""The software that trains is recorded, and differences to an earlier record are named."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import retail_core
from retail_core.training.software import LOCK_FILE, Software

ROOT = Path(__file__).resolve().parents[3]
RECORDED = Software(
    release="0.2.0",
    commit="a" * 40,
    is_clean=True,
    python="3.11.2",
    system="Linux x86_64",
    packages={"numpy": "2.2.6", "scikit-learn": "1.7.0"},
    distributions="d",
    lock="l",
)


def test_software_survives_storage_as_json() -> None:
    stored = json.loads(json.dumps(RECORDED.to_dict()))
    assert Software.from_dict(stored) == RECORDED
    assert Software.from_dict(stored | {"of a later release": 1}) == RECORDED


def test_a_checkout_is_recorded_with_its_commit_and_lock_file() -> None:
    software = Software.of_this_process()
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert software.commit == commit.stdout.strip()
    assert software.release == retail_core.__version__
    assert software.lock == hashlib.sha256((ROOT / LOCK_FILE).read_bytes()).hexdigest()
    assert software.packages["numpy"] == importlib.metadata.version("numpy")
    assert len(software.distributions) == 64


def test_an_installed_package_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retail_core, "__file__", str(tmp_path / "retail_core" / "__init__.py"))
    software = Software.of_this_process()
    assert (software.commit, software.is_clean, software.lock) == (None, None, None)
    assert len(software.distributions) == 64


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({}, []),
        ({"packages": {"numpy": "2.3.1", "scikit-learn": "1.7.0"}}, ["numpy 2.3.1 instead of 2.2.6"]),
        ({"packages": {"numpy": "2.2.6"}}, ["scikit-learn none instead of 1.7.0"]),
        ({"python": "3.13.1", "release": "0.3.0"}, [
            "Python 3.13.1 instead of 3.11.2", "release 0.3.0 instead of 0.2.0",
        ]),
        ({"commit": "b" * 40}, ["commit bbbbbbbbbbbb instead of aaaaaaaaaaaa"]),
        ({"commit": None, "is_clean": None}, []),
        ({"is_clean": False}, ["a checkout with changes"]),
        ({"distributions": "e"}, ["other installed packages"]),
    ],
)  # fmt: skip
def test_differences_are_named(change: dict[str, object], differences: list[str]) -> None:
    assert replace(RECORDED, **change).differences(RECORDED) == differences  # type: ignore[arg-type]


def test_changes_of_the_checkout_that_trained_are_named() -> None:
    earlier = replace(RECORDED, is_clean=False)
    assert RECORDED.differences(earlier) == ["it was trained from a checkout with changes"]
