"""The guard: every check on every policy, and what was admitted by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retail_core.errors import InputError
from retail_core.features.batch.attribute_columns import attribute_names, attribute_warnings
from retail_core.features.definitions import expand_definitions
from retail_core.features.kinds import Count, Distinct, Since, Total
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.leakage.announcing_events import event_types, find_announcing_events
from retail_core.model.leakage.future_removal import check_future_removal
from retail_core.model.leakage.guard_data import (
    GuardData,
    GuardSample,
    attribute_profiles,
    column_owners,
    draw_sample,
)
from retail_core.model.leakage.leakage_report import Finding, LeakageReport, merge_reports
from retail_core.model.leakage.quick_model import (
    QUICK_ROWS,
    check_implausible_performance,
    check_shuffled_labels,
)
from retail_core.model.leakage.single_columns import check_attributes, check_features


def inspect_leakage(evidence: GuardData, allowed: Sequence[str] = ()) -> LeakageReport:
    """Judge the evidence; nothing is raised for what is found.

    Args:
        evidence: rows, features, and where they come from.
        allowed: attributes, features or event types that may give the answer away.

    Raises:
        InputError: a name in `allowed` is no column of the evidence.
    """
    _refuse_unknown(evidence, allowed)
    report = merge_reports(
        _inspect_sample(evidence, draw_sample(evidence, policy), allowed) for policy in evidence.policies
    )
    warnings = attribute_warnings(evidence.lake, allowed) if evidence.lake is not None else ()
    checked = ({"check": "d", "policy": None, "looked_at": len(warnings)}, *report.checked)
    return replace(report, checked=checked, warnings=(*warnings, *report.warnings), allowed=tuple(allowed))


def refuse_leaks(evidence: GuardData, allowed: Sequence[str] = ()) -> LeakageReport:
    """As `inspect`, for a training.

    Raises:
        LeakageError: a column that is not in `allowed` gives the answer away.
        InputError: a name in `allowed` is no column of the evidence.
    """
    report = inspect_leakage(evidence, allowed)
    if (error := report.error()) is not None:
        raise error
    return report


def _inspect_sample(evidence: GuardData, sample: GuardSample, allowed: Sequence[str]) -> LeakageReport:
    names, known = evidence.feature_set.names, list(attribute_profiles(evidence, sample.policy))
    findings: list[Finding] = [
        *check_features(sample, names),
        *check_attributes(known, sample.policy),
        *check_future_removal(evidence, sample),
        *find_announcing_events(evidence, sample),
    ]
    findings = [apply_allowance(one, allowed) for one in findings]
    owners = column_owners(evidence.feature_set)
    admitted = _columns_of(evidence.feature_set.task, allowed)
    honest = np.array([owner not in admitted for owner in owners], dtype=bool)
    quick = draw_sample(evidence, sample.policy, QUICK_ROWS)
    control, odd = check_shuffled_labels(quick, evidence.seed)
    whole, good = check_implausible_performance(quick, quick.matrix, owners, evidence.seed)
    model: dict[str, Any] = dict(whole.numbers)
    if not honest.all() and honest.any():
        left = [owner for owner, kept in zip(owners, honest, strict=True) if kept]
        without, good = check_implausible_performance(quick, quick.matrix[:, honest], left, evidence.seed)
        model["without"] = {"columns": sorted(set(owners) - set(left)), **without.numbers}
    return LeakageReport(
        checked=_checked(sample, len(names), len(known)),
        findings=(*findings, *odd, *(apply_allowance(one, allowed) for one in good)),
        warnings=tuple(one.what for one in (*findings, *odd) if one.verdict == "warn"),
        allowed=(),
        model={sample.policy: model},
        control={sample.policy: control.numbers},
    )


def apply_allowance(finding: Finding, allowed: Sequence[str]) -> Finding:
    """The finding, no longer refused if its column was admitted by name."""
    ok = finding.verdict == "refuse" and finding.column in allowed
    return replace(finding, verdict="allowed") if ok else finding


def _checked(sample: GuardSample, features: int, attributes: int) -> tuple[dict[str, Any], ...]:
    counts = {"a": features + attributes, "b": attributes, "c": features + attributes, "e": 1, "f": 1}
    rows, positives = len(sample.rows), int(sample.answers.labels.sum())
    users = int(sample.rows["user_id"].nunique())
    about = {"policy": sample.policy, "rows": rows, "users": users, "positives": positives}
    return tuple({"check": check, "looked_at": count, **about} for check, count in counts.items())


def _columns_of(task: PredictionTask, allowed: Sequence[str]) -> set[str]:
    """What is admitted by name, and the features that are about an admitted event type alone."""
    about = {
        name
        for name, feature in expand_definitions(task).items()
        if isinstance(feature.kind, Count | Since | Total | Distinct) and feature.kind.event_type in allowed
    }
    return {*allowed, *about}


def _refuse_unknown(evidence: GuardData, allowed: Sequence[str]) -> None:
    if not allowed:
        return
    known = {*column_owners(evidence.feature_set), *expand_definitions(evidence.feature_set.task)}
    if evidence.lake is not None:
        known |= {*attribute_names(evidence.lake), *event_types(evidence.lake, evidence.as_of)}
    for name in allowed:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 3) or sorted(known)[:5]
            raise InputError(
                f"There is no column {name!r} to allow.",
                remedy=f"name an attribute, a feature or an event type, such as {', '.join(close)}.",
            )
