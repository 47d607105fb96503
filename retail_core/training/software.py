"""The software that trains: release, commit, Python and packages, as it is stored with a version."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import retail_core
from retail_core.registry.versions import model_requirements

LOCK_FILE = "requirements.lock"
_FEATURE_REQUIREMENTS = ("duckdb", "pyarrow")
_GIT_SECONDS = 10


@dataclass(frozen=True)
class Software:
    """What can make two trainings on the same rows differ.

    Attributes:
        release: version of this package.
        commit: git commit, where it runs from a checkout.
        is_clean: whether that checkout had no changes.
        python: version of Python.
        system: operating system and processor architecture.
        packages: versions of the libraries that compute features and models, by name.
        distributions: SHA-256 of the sorted `name==version` of every installed distribution.
        lock: SHA-256 of the lock file, where it runs from a checkout.
    """

    release: str
    commit: str | None
    is_clean: bool | None
    python: str
    system: str
    packages: Mapping[str, str]
    distributions: str
    lock: str | None

    @classmethod
    def of_this_process(cls) -> Software:
        """The software that is running."""
        checkout = Path(retail_core.__file__).parents[1]
        has_git = (checkout / ".git").exists()
        lock = checkout / LOCK_FILE
        commit = _git(checkout, "rev-parse", "HEAD") if has_git else None
        changes = _git(checkout, "status", "--porcelain", "--untracked-files=no") if commit else None
        return cls(
            release=retail_core.__version__,
            commit=commit,
            is_clean=None if changes is None else not changes,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            packages=_versions_of((*model_requirements(), *_FEATURE_REQUIREMENTS)),
            distributions=_hash_of_distributions(),
            lock=hashlib.sha256(lock.read_bytes()).hexdigest() if has_git and lock.exists() else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as stored with a version."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Software:
        """Inverse of `to_dict`; values that this release does not know are left out."""
        values: dict[str, Any] = {field.name: content.get(field.name) for field in fields(cls)}
        return cls(**values)

    def differences(self, earlier: Software) -> list[str]:
        """What is another than in `earlier`, such as `numpy 2.3.1 instead of 2.2.6`; the packages first."""
        names = sorted(self.packages.keys() | earlier.packages.keys())
        versions = [(name, self.packages.get(name), earlier.packages.get(name)) for name in names]
        versions += [("Python", self.python, earlier.python), ("release", self.release, earlier.release)]
        versions += [("system", self.system, earlier.system)]
        if self.commit and earlier.commit:
            versions += [("commit", self.commit[:12], earlier.commit[:12])]
        different = [
            f"{name} {now or 'none'} instead of {then or 'none'}"
            for name, now, then in versions
            if now != then
        ]
        if not self.is_clean and self.commit:
            different.append("a checkout with changes")
        if not earlier.is_clean and earlier.commit:
            different.append("it was trained from a checkout with changes")
        if not different and self.distributions != earlier.distributions:
            different.append("other installed packages")
        return different


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where git is missing or fails."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()


def _versions_of(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hash_of_distributions() -> str:
    installed = {
        f"{distribution.name.lower().replace('_', '-')}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
    }
    return hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()
