"""Podman with all its files in one folder, and the images that everything else is built from."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("containers.sh")
BASE = "localhost/base/python:3.11"
BUILD_BASE = "localhost/base/python-build:3.11"
NO_ENGINE = 69


@dataclass(frozen=True)
class Podman:
    """An engine whose files are all in one folder."""

    work: Path

    def run(self, *arguments: str) -> str:
        done = self.attempt(*arguments)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return call(["podman", *arguments], self.environment())

    def logs(self, name: str) -> str:
        done = self.attempt("logs", "--tail", "60", name)
        return f"{name}:\n{done.stdout}{done.stderr}"

    def environment(self, conf: str = "run.conf") -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.work / "storage.conf"),
            "CONTAINERS_CONF": str(self.work / conf),
        }


def call(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def recipe(step: str, work: Path) -> subprocess.CompletedProcess[str]:
    return call([str(RECIPE), step, str(work)], dict(os.environ))


def not_run(step: str, output: str) -> None:
    """A job that could not run is never a job that passed."""
    print(f"\nCONTAINER JOB NOT RUN: {step}: {output.strip()[-400:]}", file=sys.stderr)
    pytest.skip(f"not run: {step}: {output.strip()[-400:]}")
