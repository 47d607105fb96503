"""The guard: every check on every policy, and the columns that are allowed by name."""

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


def inspect_leakage(guard_data: GuardData, allowed: Sequence[str] = ()) -> LeakageReport:
    """Run every check; findings are reported, never raised.

    Args:
        guard_data: rows, features, and where they come from.
        allowed: attributes, features or event types that may reveal the label.

    Raises:
        InputError: a name in `allowed` is no column of the data.
    """
    _refuse_unknown_columns(guard_data, allowed)
    report = merge_reports(
        _inspect_sample(guard_data, draw_sample(guard_data, policy), allowed)
        for policy in guard_data.policies
    )
    warnings = attribute_warnings(guard_data.lake, allowed) if guard_data.lake is not None else ()
    checked = ({"check": "d", "policy": None, "looked_at": len(warnings)}, *report.checked)
    return replace(report, checked=checked, warnings=(*warnings, *report.warnings), allowed=tuple(allowed))


def refuse_leaks(guard_data: GuardData, allowed: Sequence[str] = ()) -> LeakageReport:
    """Run every check for a training; returns the report where nothing is refused.

    Raises:
        LeakageError: a column that is not in `allowed` reveals the label.
        InputError: a name in `allowed` is no column of the data.
    """
    report = inspect_leakage(guard_data, allowed)
    if (error := report.error()) is not None:
        raise error
    return report


def _inspect_sample(guard_data: GuardData, sample: GuardSample, allowed: Sequence[str]) -> LeakageReport:
    names, profiles = guard_data.feature_set.names, list(attribute_profiles(guard_data, sample.policy))
    findings: list[Finding] = [
        *check_features(sample, names),
        *check_attributes(profiles, sample.policy),
        *check_future_removal(guard_data, sample),
        *find_announcing_events(guard_data, sample),
    ]
    findings = [_apply_allowance(finding, allowed) for finding in findings]
    quick_sample = draw_sample(guard_data, sample.policy, QUICK_ROWS)
    control, control_findings = check_shuffled_labels(quick_sample, guard_data.seed)
    model, model_findings = _inspect_quick_model(guard_data, quick_sample, allowed)
    findings += control_findings
    return LeakageReport(
        checked=_checked_counts(sample, len(names), len(profiles)),
        findings=(*findings, *(_apply_allowance(finding, allowed) for finding in model_findings)),
        warnings=tuple(finding.what for finding in findings if finding.verdict == "warn"),
        allowed=(),
        model={sample.policy: model},
        control={sample.policy: control.numbers},
    )


def _inspect_quick_model(
    guard_data: GuardData, sample: GuardSample, allowed: Sequence[str]
) -> tuple[dict[str, Any], list[Finding]]:
    """Metrics of the quick model with all columns, and under `without` those without the allowed columns.

    Findings are of the model without them, where any are left.
    """
    owners = column_owners(guard_data.feature_set)
    allowed_owners = _allowed_columns(guard_data.feature_set.task, allowed)
    remaining = np.array([owner not in allowed_owners for owner in owners], dtype=bool)
    full, findings = check_implausible_performance(sample, sample.matrix, owners, guard_data.seed)
    metrics: dict[str, Any] = dict(full.numbers)
    if not remaining.all() and remaining.any():
        remaining_owners = [owner for owner in owners if owner not in allowed_owners]
        without, findings = check_implausible_performance(
            sample, sample.matrix[:, remaining], remaining_owners, guard_data.seed
        )
        left_out = sorted(set(owners) - set(remaining_owners))
        metrics["without"] = {"columns": left_out, **without.numbers}
    return metrics, findings


def _apply_allowance(finding: Finding, allowed: Sequence[str]) -> Finding:
    """The finding, no longer refused if its column is allowed by name."""
    is_allowed = finding.verdict == "refuse" and finding.column in allowed
    return replace(finding, verdict="allowed") if is_allowed else finding


def _checked_counts(sample: GuardSample, features: int, attributes: int) -> tuple[dict[str, Any], ...]:
    counts = {"a": features + attributes, "b": attributes, "c": features + attributes, "e": 1, "f": 1}
    rows, positives = len(sample.rows), int(sample.row_labels.bought.sum())
    users = int(sample.rows["user_id"].nunique())
    size = {"policy": sample.policy, "rows": rows, "users": users, "positives": positives}
    return tuple({"check": check, "looked_at": count, **size} for check, count in counts.items())


def _allowed_columns(task: PredictionTask, allowed: Sequence[str]) -> set[str]:
    """The allowed names, and the features that count or time only an allowed event type."""
    of_event_type = {
        name
        for name, feature in expand_definitions(task).items()
        if isinstance(feature.kind, Count | Since | Total | Distinct) and feature.kind.event_type in allowed
    }
    return {*allowed, *of_event_type}


def _refuse_unknown_columns(guard_data: GuardData, allowed: Sequence[str]) -> None:
    if not allowed:
        return
    feature_set = guard_data.feature_set
    names = {*column_owners(feature_set), *expand_definitions(feature_set.task)}
    if guard_data.lake is not None:
        names |= {*attribute_names(guard_data.lake), *event_types(guard_data.lake, guard_data.as_of)}
    for name in allowed:
        if name not in names:
            similar = difflib.get_close_matches(name, sorted(names), 3) or sorted(names)[:5]
            raise InputError(
                f"There is no column {name!r} to allow.",
                remedy=f"name an attribute, a feature or an event type, such as {', '.join(similar)}.",
            )
