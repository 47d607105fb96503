"""`make audit`: what could not be checked never counts as passed; reviewed texts are no new secrets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools.audit import DEV_LOCK, FAILED, NOT_CHECKED, PASSED, licences, new_secrets, vulnerability_outcome
from tools.licences import is_allowed, licence_text, locked_packages

CHECKED = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
VULNERABLE = {"name": "c", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}


@pytest.mark.parametrize(
    ("entries", "state", "text"),
    [
        ([CHECKED], PASSED, "in 1 packages"),
        ([CHECKED, SKIPPED], NOT_CHECKED, "1 of 2 packages"),
        ([CHECKED, SKIPPED, VULNERABLE], FAILED, "1 known"),
    ],
)
def test_a_package_without_advisory_data_is_not_checked(entries: list[Any], state: str, text: str) -> None:
    outcome = vulnerability_outcome(entries)
    assert outcome.state == state
    assert text in outcome.text
    if state == FAILED:
        assert outcome.details == ("c 1: PYSEC-1, fixed in 2",)


@pytest.mark.parametrize(
    ("expression", "classifiers", "free_text", "expected"),
    [
        ("MIT AND PSF-2.0", ["License :: OSI Approved :: BSD License"], "", "MIT AND PSF-2.0"),
        ("", ["License :: OSI Approved :: MIT License", "Topic :: Text"], "GPL", "MIT"),
        ("", ["License :: OSI Approved", "License :: OSI Approved :: MIT License"], "", "MIT"),
        ("", ["License :: OSI Approved :: GNU Affero General Public License v3"], "MIT", ""),
        ("", ["License :: Other/Proprietary License"], "Ask us", ""),
        ("", [], "Apache License, Version 2.0\n\nfull text", "Apache-2.0"),
        ("", [], "GPL-3.0-only", "GPL-3.0-only"),
        ("", [], "", ""),
    ],
)
def test_the_licence_of_a_package(
    expression: str, classifiers: list[str], free_text: str, expected: str
) -> None:
    assert licence_text(expression, classifiers, free_text) == expected


@pytest.mark.parametrize(
    "expression", ["AGPL-3.0-only", "MIT AND GPL-2.0-only", "Proprietary", "", "MIT WITH x"]
)
def test_other_licences_are_refused(expression: str) -> None:
    assert not is_allowed(expression)


def test_one_of_several_licences_suffices() -> None:
    assert is_allowed("AGPL-3.0-only OR (MIT AND ISC)")


def test_the_licences_of_all_locked_packages_are_allowed() -> None:
    outcome = licences()
    assert outcome.state == PASSED, outcome.details
    names = re.findall(r"^([A-Za-z0-9._-]+)==", DEV_LOCK.read_text(), re.MULTILINE)
    assert locked_packages(DEV_LOCK).keys() == set(names)
    assert len(set(names)) > 300


def test_a_secret_is_reported_until_it_is_reviewed_and_when_it_changes() -> None:
    entry = {"type": "Secret Keyword", "hashed_secret": "1", "line_number": 3}
    report = {"results": {"a.py": [entry]}}
    reviewed = {"results": {"a.py": [{"hashed_secret": "1"}]}}
    assert new_secrets(report, reviewed) == []
    assert new_secrets(report, {"results": {}}) == ["a.py:3: Secret Keyword"]
    assert new_secrets({"results": {"b.py": [entry]}}, reviewed) == ["b.py:3: Secret Keyword"]
    assert new_secrets({"results": {"a.py": [entry | {"hashed_secret": "2"}]}}, reviewed)
