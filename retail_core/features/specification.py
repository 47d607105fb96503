"""What a feature is, spelt out: for the hash of a set, for documents, for the order of computing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from retail_core.features import formulas as f
from retail_core.features.kinds import Derived, Feature
from retail_core.features.question import Question


def used_by(question: Question, feature: Feature) -> tuple[str, ...]:
    """Names of the features a derived one uses; none for the other kinds."""
    return _trace(question, feature)[1]


def specification(question: Question, feature: Feature | None) -> str:
    """One line that says exactly what is computed; two features with the same line are the same."""
    if feature is None:
        return "unknown"
    if isinstance(feature.kind, Derived):
        return f"{feature.name} = {_trace(question, feature)[0]}"
    return f"{feature.name} = {feature.kind!r} over {feature.window.label if feature.window else 'look-back'}"


def required(question: Question, known: Mapping[str, Feature], names: Iterable[str]) -> tuple[str, ...]:
    """`names` and everything their formulas use, each once, before those that use it."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in known:
            for other in used_by(question, known[name]):
                visit(other)
        found.setdefault(name)

    for name in names:
        visit(name)
    return tuple(found)


@lru_cache(maxsize=4096)
def _trace(question: Question, feature: Feature) -> tuple[str, tuple[str, ...]]:
    if not isinstance(feature.kind, Derived):
        return "", ()
    used: list[str] = []
    text = str(feature.kind.formula(f.texts(used, question.windows)))
    return text, tuple(dict.fromkeys(used))
