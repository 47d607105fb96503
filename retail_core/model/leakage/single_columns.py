"""Checks (a) and (b): one column at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retail_core.model.leakage.guard_data import AttributeProfile, GuardSample
from retail_core.model.leakage.intervals import Interval, auc, auc_interval
from retail_core.model.leakage.leakage_report import Check, Finding
from retail_core.model.leakage.value_cells import (
    PureCell,
    cells_with_enough_coverage,
    find_pure_cells,
    number_cells,
)

FEATURE_AUC = 0.95
"""A feature is refused if the lower bound of its AUC is at least this; so strong is no single act."""
ATTRIBUTE_AUC = 0.90
"""The same for an attribute: what a user is says less than what a user does."""
FAMILY_ALPHA = 0.05
"""Chance of one false alarm among all columns of a check; each gets its part (Bonferroni)."""


def check_features(sample: GuardSample, names: Sequence[str]) -> Iterator[Finding]:
    """(a) Features, by their AUC and by cells whose rows nearly all buy. `names` are the first columns."""
    alpha = FAMILY_ALPHA / max(1, len(names))
    for place, name in enumerate(names):
        values = sample.matrix[:, place]
        if (strong := separating_auc(values, sample, alpha, FEATURE_AUC)) is not None:
            yield auc_finding(name, strong, sample, FEATURE_AUC)
        cells = number_cells(values)
        pure = find_pure_cells(cells, sample.answers, alpha / len(cells.names), both_ways=False)
        if found := cells_with_enough_coverage(list(pure)):
            yield purity_finding("a", name, found, sample.policy)


def separating_auc(
    values: np.ndarray[tuple[int], np.dtype[np.float32]], sample: GuardSample, alpha: float, limit: float
) -> Interval | None:
    """The AUC of a column (or of its reverse) whose lower bound reaches the limit."""
    labels, users = sample.answers.labels, sample.answers.users
    plain = auc(values, labels)
    if max(plain, 1 - plain) < limit:
        return None
    found = auc_interval(values if plain >= 0.5 else -values, labels, users, alpha)
    return found if found.low >= limit else None


def check_attributes(profiles: Sequence[AttributeProfile], policy: str) -> Iterator[Finding]:
    """(a) and (b) Attributes, by users: their AUC, and values whose users nearly all buy or never do."""
    cells = sum(len(one.cells.names) for one in profiles)
    for one in profiles:
        labels, users = one.answers.labels, one.answers.users
        plain = auc(one.values, labels)
        values = one.values if plain >= 0.5 else -one.values
        found = auc_interval(values, labels, users, FAMILY_ALPHA / len(profiles))
        if found.low >= ATTRIBUTE_AUC:
            n = len(np.unique(users))
            yield Finding(
                "a", one.name, "refuse",
                f"{one.name} alone tells the buyers from the others with AUC {found.value:.3f} "
                f"({found.low:.3f} to {found.high:.3f}; {n:,} users, {policy} rows).",
                {"policy": policy, "n": n, "auc": found.value, "low": found.low, "high": found.high,
                 "limit": ATTRIBUTE_AUC},
            )  # fmt: skip
        pure = find_pure_cells(one.cells, one.answers, FAMILY_ALPHA / cells, both_ways=True)
        if kept := cells_with_enough_coverage(list(pure)):
            yield purity_finding("b", one.name, kept, policy)


def auc_finding(name: str, found: Interval, sample: GuardSample, limit: float) -> Finding:
    """(a) as a sentence with its numbers."""
    n, bought = len(sample.rows), int(sample.answers.labels.sum())
    return Finding(
        "a", name, "refuse",
        f"{name} alone tells the buyers from the others with AUC {found.value:.3f} "
        f"({found.low:.3f} to {found.high:.3f}; {n:,} {sample.policy} rows, {bought:,} bought).",
        {"policy": sample.policy, "n": n, "positives": bought, "auc": found.value, "low": found.low,
         "high": found.high, "limit": limit},
    )  # fmt: skip


def purity_finding(check: Check, name: str, found: Sequence[PureCell], policy: str) -> Finding:
    """Cells that name the answer as a sentence; the one with most users is told."""
    told = max(found, key=lambda one: one.users)
    cells = [
        {"value": one.name, "names": one.kind, "n": one.users, "bought": one.bought,
         "share": one.share.value, "low": one.share.low, "high": one.share.high, "covered": one.covered}
        for one in sorted(found, key=lambda one: -one.users)
    ]  # fmt: skip
    bound = f"at least {told.share.low:.1%}" if told.kind == "buyers" else f"at most {told.share.high:.2%}"
    return Finding(
        check, name, "refuse",
        f"{name}: of {told.users:,} users with {told.name!r} {told.bought:,} bought ({bound}; "
        f"base rate {told.base:.1%}, {policy} rows).",
        {"policy": policy, "n": told.users, "purity": told.share.value, "low": told.share.low,
         "high": told.share.high, "base_rate": told.base, "values": cells},
    )  # fmt: skip
