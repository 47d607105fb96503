"""Model cards: intended use, data, metrics and limitations of a version, as Markdown.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retail_core.model.spec import ModelSpec
from retail_core.times import iso

METRIC_TITLES = {
    "ap": "average precision",
    "auc": "area under the ROC curve",
    "f1": "F1 of `will_purchase`",
    "recall": "recall of `will_purchase`",
    "precision": "precision of `will_purchase`",
    "lift_at_1": "lift of the best 1 %",
    "lift_at_5": "lift of the best 5 %",
    "lift_at_10": "lift of the best 10 %",
    "lift_at_20": "lift of the best 20 %",
    "recall_at_1": "buyers among the best 1 %",
    "recall_at_5": "buyers among the best 5 %",
    "recall_at_10": "buyers among the best 10 %",
    "recall_at_20": "buyers among the best 20 %",
    "brier": "Brier score",
    "brier_skill": "Brier skill against the base rate",
    "ece": "expected calibration error",
    "slope": "calibration slope",
}

LIMITATIONS = (
    "It ranks users who were active in the eligibility window; it says nothing of others.",
    "A probability holds for shops and seasons like those it was trained on; promotions and holidays it "
    "has not seen shift it until it is recalibrated or trained again.",
    "It predicts who buys, not whom a contact makes buy: the control group of an audience measures that.",
    "The certificate holds for buyers like those of the certification days, one row each.",
)


def model_card(spec: ModelSpec, verdict: str = "") -> str:
    """The card of a registered version; `verdict` is that of the promotion gate, in a sentence."""
    return "\n".join(
        [
            f"# Model card: version {spec.version}",
            "",
            *([f"Promotion gate: {verdict}.", ""] if verdict else []),
            *_about(spec),
            *(line for policy in spec.policies for line in _policy(spec, policy)),
            "## Limits",
            "",
            *(f"- {limit}" for limit in LIMITATIONS),
            "",
        ]
    )


def _recalibrated(training: Mapping[str, Any]) -> list[str]:
    source = training.get("recalibration")
    if not source:
        return []
    return [f"| recalibrated | from version {source['from']}, on days up to {source['as_of']} |"]


def _provenance(spec: ModelSpec) -> Iterable[str]:
    if tables := spec.data.get("tables"):
        versions = (f"{name} {tables[name]['version']}, {tables[name]['rows']} rows" for name in tables)
        yield f"| versions of the lake's tables | {'; '.join(versions)} |"
    if software := spec.training.get("software"):
        commit = f", commit {spec.describe_commit()}" if spec.describe_commit() else ""
        yield (
            f"| software | release {software['release']}{commit}, Python {software['python']}, installed "
            f"distributions `{software['distributions'][:12]}` |"
        )


def _about(spec: ModelSpec) -> Iterable[str]:
    training, data = spec.training, spec.data
    task = spec.feature_set.task
    floors = training.get("search", {}).get("compared", {})
    yield from (
        f"Which users buy within {task.horizon_hours} hours of a cut-off. Intended for choosing whom to "
        "contact and for ranking in the app; not for decisions about credit, price or access.",
        "",
        "| | |",
        "|---|---|",
        f"| family | {training.get('family', '?')}, {_params(training.get('best_params', {}))} |",
        f"| trained | {iso(spec.trained_at)}, on what was known at {data['as_of']} |",
        *_recalibrated(training),
        f"| data | {data.get('events', '?')} events, {data.get('rows', '?')} labelled rows, hash "
        f"`{data['data_hash']}` |",
        *_provenance(spec),
        f"| features | {len(spec.feature_set.columns)}, set `{spec.feature_set.hash[:12]}`, look-back "
        f"{task.lookback_days} days |",
        f"| split | {training.get('split', '?')} |",
        f"| leaky | {'YES: never promote it' if spec.leaky else 'no'} |",
        "",
    )
    if floors:
        yield "On the folds of the search (average precision; lead of the selected cell, 95 % interval):"
        yield ""
        yield from _table(
            ("candidate", "AP", "lead"),
            [(name, f"{values['ap']:.4f}", _lead(values)) for name, values in floors.items()],
        )


def _policy(spec: ModelSpec, policy: str) -> Iterable[str]:
    metrics, evaluation = spec.metrics[policy], spec.evaluation.get(policy, {})
    yield from (
        f"## Cut-off policy {policy}",
        "",
        f"Population: {metrics.get('population', '?')}. Test cut-offs {metrics.get('first_cutoff', '?')} to "
        f"{metrics.get('last_cutoff', '?')}: {metrics['n']:,} rows, {metrics['positives']:,} buyers, "
        f"base rate {metrics['base_rate']:.2%}.",
        "",
        _promise(spec, policy),
        "",
    )
    intervals = evaluation.get("intervals", {})
    yield from _table(
        ("figure", "value", "95 % over users"),
        [
            (title, _number(metrics[name]), _interval(intervals.get(name)))
            for name, title in METRIC_TITLES.items()
            if metrics.get(name) is not None
        ],
    )
    yield from _detail_tables(evaluation)


def _detail_tables(evaluation: Mapping[str, Any]) -> Iterable[str]:
    if rules := evaluation.get("rules"):
        yield "Compared with simple rules on the same rows (average precision):"
        yield ""
        yield from _table(
            ("rule", "AP", "the model's lead"),
            [(name, f"{values['ap']:.4f}", _lead(values)) for name, values in rules.items()],
        )
    if segments := evaluation.get("segments"):
        yield "By segment, including user attributes; unequal treatment of groups would appear here:"
        yield ""
        columns = (
            "n",
            "base_rate",
            "mean_probability",
            "ap",
            "auc",
            "ece",
            "contact_share",
            "contact_recall",
        )
        yield from _table(
            ("segment", *columns),
            [(name, *(_number(values[column]) for column in columns)) for name, values in segments.items()],
        )
    if days := evaluation.get("days"):
        yield "By day:"
        yield ""
        shown = ("n", "positives", "base_rate", "mean_probability", "ap", "auc")
        yield from _table(
            ("day", *shown),
            [(values["day"], *(_number(values[column]) for column in shown)) for values in days],
        )


def _promise(spec: ModelSpec, policy: str) -> str:
    certificate = spec.certificates[policy]
    if certificate is None:
        return f"No recall is certified: {spec.reasons[policy]}."
    return (
        f"Certified: `contact` finds at least {certificate['lower_bound']:.1%} of all buyers with "
        f"{certificate['confidence']:.0%} confidence ({certificate['buyers']} buyers looked at, "
        f"{certificate['missed']} of them missed)."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _params(params: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in params.items())


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _lead(values: Mapping[str, float]) -> str:
    return f"{values['lead']:+.4f} ({values['low']:+.4f} to {values['high']:+.4f})"
