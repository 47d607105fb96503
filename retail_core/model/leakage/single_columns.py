"""Checks (a) and (b): each column by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retail_core.arrays import Float32Array
from retail_core.model.leakage.guard_data import AttributeProfile, GuardSample
from retail_core.model.leakage.intervals import Interval, auc, auc_interval
from retail_core.model.leakage.leakage_report import CheckLetter, Finding
from retail_core.model.leakage.value_cells import (
    PureCell,
    cells_with_enough_coverage,
    find_pure_cells,
    number_cells,
)

FEATURE_AUC = 0.95
"""A feature is refused if the lower bound of its AUC is at least this; no single one predicts so well."""
ATTRIBUTE_AUC = 0.90
"""The same for an attribute: a user's properties predict less than the user's behaviour."""
FAMILY_ALPHA = 0.05
"""Chance of one false alarm among all columns of a check, divided among them (Bonferroni)."""


def check_features(sample: GuardSample, names: Sequence[str]) -> Iterator[Finding]:
    """(a) Features by their AUC and by cells whose rows nearly all buy; `names` are the first columns."""
    alpha = FAMILY_ALPHA / max(1, len(names))
    for index, name in enumerate(names):
        values = sample.matrix[:, index]
        if (interval := separating_auc(values, sample, alpha, FEATURE_AUC)) is not None:
            yield _feature_auc_finding(name, interval, sample)
        cells = number_cells(values)
        pure = find_pure_cells(cells, sample.row_labels, alpha / len(cells.names), both_ways=False)
        if sufficient := cells_with_enough_coverage(list(pure)):
            yield _purity_finding("a", name, sufficient, sample.policy)


def separating_auc(values: Float32Array, sample: GuardSample, alpha: float, limit: float) -> Interval | None:
    """The AUC of a column, or of its reverse, if its lower bound reaches the limit."""
    bought, users = sample.row_labels.bought, sample.row_labels.users
    value = auc(values, bought)
    if max(value, 1 - value) < limit:
        return None
    interval = auc_interval(values if value >= 0.5 else -values, bought, users, alpha)
    return interval if interval.low >= limit else None


def check_attributes(profiles: Sequence[AttributeProfile], policy: str) -> Iterator[Finding]:
    """(a) and (b) Attributes by users: their AUC, and values whose users nearly all buy or never buy."""
    cells = sum(len(profile.cells.names) for profile in profiles)
    for profile in profiles:
        bought, users = profile.row_labels.bought, profile.row_labels.users
        values = profile.values if auc(profile.values, bought) >= 0.5 else -profile.values
        interval = auc_interval(values, bought, users, FAMILY_ALPHA / len(profiles))
        if interval.low >= ATTRIBUTE_AUC:
            yield _attribute_auc_finding(profile.name, interval, len(np.unique(users)), policy)
        pure = find_pure_cells(profile.cells, profile.row_labels, FAMILY_ALPHA / cells, both_ways=True)
        if sufficient := cells_with_enough_coverage(list(pure)):
            yield _purity_finding("b", profile.name, sufficient, policy)


def _attribute_auc_finding(name: str, interval: Interval, users: int, policy: str) -> Finding:
    return Finding(
        "a", name, "refuse",
        f"{name} alone separates buyers from non-buyers with AUC {interval.value:.3f} "
        f"({interval.low:.3f} to {interval.high:.3f}; {users:,} users, {policy} rows).",
        {"policy": policy, "n": users, "auc": interval.value, "low": interval.low, "high": interval.high,
         "limit": ATTRIBUTE_AUC},
    )  # fmt: skip


def _feature_auc_finding(name: str, interval: Interval, sample: GuardSample) -> Finding:
    rows, bought = len(sample.rows), int(sample.row_labels.bought.sum())
    return Finding(
        "a", name, "refuse",
        f"{name} alone separates buyers from non-buyers with AUC {interval.value:.3f} "
        f"({interval.low:.3f} to {interval.high:.3f}; {rows:,} {sample.policy} rows, {bought:,} bought).",
        {"policy": sample.policy, "n": rows, "positives": bought, "auc": interval.value,
         "low": interval.low, "high": interval.high, "limit": FEATURE_AUC},
    )  # fmt: skip


def _purity_finding(check: CheckLetter, name: str, pure_cells: Sequence[PureCell], policy: str) -> Finding:
    """Cells that identify buyers or non-buyers; the sentence describes the one with most users."""
    largest = max(pure_cells, key=lambda cell: cell.users)
    values = [
        {"value": cell.name, "names": cell.kind, "n": cell.users, "bought": cell.bought,
         "share": cell.share.value, "low": cell.share.low, "high": cell.share.high, "covered": cell.covered}
        for cell in sorted(pure_cells, key=lambda cell: -cell.users)
    ]  # fmt: skip
    is_buyers = largest.kind == "buyers"
    bound = f"at least {largest.share.low:.1%}" if is_buyers else f"at most {largest.share.high:.2%}"
    return Finding(
        check, name, "refuse",
        f"{name}: of {largest.users:,} users with {largest.name!r} {largest.bought:,} bought ({bound}; "
        f"base rate {largest.base:.1%}, {policy} rows).",
        {"policy": policy, "n": largest.users, "purity": largest.share.value, "low": largest.share.low,
         "high": largest.share.high, "base_rate": largest.base, "values": values},
    )  # fmt: skip
