"""The leakage guard on generated rows: which columns are refused, which are not, and the intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from retail_core.errors import InputError, LeakageError
from retail_core.features.feature_set import FeatureSet
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.model.feature_matrix import MISSING, to_matrix
from retail_core.model.leakage import GuardData, inspect_leakage, refuse_leaks
from retail_core.model.leakage.guard_data import draw_sample
from retail_core.model.leakage.intervals import auc, auc_interval, share_interval
from retail_core.model.leakage.value_cells import RowLabels, category_cells, find_pure_cells, number_cells
from retail_core.model.sampling import Sampling, plan_sampling

SEEDS = range(2)


def guard_data_of(
    columns: dict[str, np.ndarray], labels: np.ndarray, users: np.ndarray | None = None
) -> GuardData:
    """Guard data without events; every column is an attribute, text columns are categories."""
    attributes, encoded = [], []
    for name, values in columns.items():
        if values.dtype.kind == "U":
            categories = tuple(sorted(set(values.tolist())))
            attributes.append(AttributeEncoding(name, "category", categories))
            encoded += [values == category for category in categories]
        else:
            attributes.append(AttributeEncoding(name, "number"))
            encoded.append(values)
    n = len(labels)
    rows = pd.DataFrame(
        {
            "user_id": pd.Series(np.arange(n) if users is None else users).astype("str"),
            "as_of": pd.Series(pd.Timestamp("2025-01-01", tz="UTC"), index=range(n)).dt.as_unit("ms"),
            "policy": "table",
            "label": labels,
        }
    )
    matrix = to_matrix(np.column_stack(encoded).astype(np.float64))
    feature_set = FeatureSet(PredictionTask(), (), tuple(attributes))
    return GuardData(rows, matrix, feature_set, Sampling(1.0, 1.0), rows, None, None, 7)


def random_labels(seed: int, n: int = 4_000, base: float = 0.3) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.random(n) < base


def clean_columns(rng: np.random.Generator, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Columns with a weak relation to the label."""
    n = len(labels)
    return {
        "age": rng.integers(18, 90, n).astype(float),
        "visits": rng.poisson(3 + 2 * labels).astype(float),
        "region": np.array(["north", "south", "east"])[(rng.random(n) * 3 + 0.4 * labels).astype(int) % 3],
        "plan": np.where(rng.random(n) < 0.2 + 0.3 * labels, "plus", "basic"),
    }


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(2, 60), elements=st.sampled_from([0.0, 1.0, 2.0, 5.5])),
    st.integers(0, 2**31),
)
def test_auc_equals_scikit_learn_and_lies_in_its_interval(values: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(len(values)) < 0.5
    users = rng.integers(0, max(1, len(values) // 2), len(values))
    interval = auc_interval(values, labels, users, 0.05)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    if 0 < labels.sum() < len(labels):
        assert interval.value == pytest.approx(roc_auc_score(labels, values))
        assert auc(-values, labels) == pytest.approx(1 - interval.value)


def test_auc_interval_treats_users_as_independent_and_has_its_coverage() -> None:
    missed = {"users": 0, "rows": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(120), 10)
        taste, luck = np.repeat(rng.normal(size=120), 10), np.repeat(rng.normal(size=120), 10)
        labels = luck + 0.3 * rng.normal(size=1_200) > 0.5
        missed["users"] += auc_interval(taste, labels, users, 0.05).low > 0.5
        missed["rows"] += auc_interval(taste, labels, np.arange(1_200), 0.05).low > 0.5
    assert missed["users"] <= 18  # 10 expected
    assert missed["rows"] > 2 * missed["users"], "rows of one user are not independent"


def test_perfect_column_of_few_buyers_has_a_wide_interval() -> None:
    lows = []
    for n in (10, 50, 500):
        labels = np.arange(2 * n) < n
        lows.append(auc_interval(labels.astype(float), labels, np.arange(2 * n), 0.001).low)
    assert lows == sorted(lows)
    assert lows[0] < 0.9 < lows[1] < 0.98 < lows[2] < 1


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_share_interval_contains_the_share(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    interval = share_interval(hits, n, 0.01)
    assert 0 <= interval.low <= hits / n <= interval.high <= 1
    complement = share_interval(n - hits, n, 0.01)
    assert complement.low == pytest.approx(1 - interval.high)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 200),
        elements=st.one_of(
            st.just(float(MISSING)), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, 1.0])
        ),
    )
)
def test_every_value_has_a_cell_and_only_nulls_are_unknown(values: np.ndarray) -> None:
    cells = number_cells(values)
    assert ((cells.codes >= 0) & (cells.codes < len(cells.names))).all()
    assert ((cells.codes == 0) == (values == MISSING)).all()
    order = np.argsort(values[values != MISSING], kind="stable")
    assert (np.diff(cells.codes[values != MISSING][order]) >= 0).all()


def test_user_counts_once_in_a_cell() -> None:
    labels = np.ones(300, bool)
    cells = category_cells(np.ones((300, 1)), ["x"])
    many_users = RowLabels(
        np.append(labels, np.zeros(700, bool)), np.arange(1_000), 1.0, np.random.default_rng(1).random(1_000)
    )
    one_user = RowLabels(
        many_users.bought, np.append(np.zeros(300, int), np.arange(1, 701)), 1.0, many_users.draws
    )
    both = category_cells((np.arange(1_000) < 300)[:, None].astype(float), ["x"])
    assert [pure.users for pure in find_pure_cells(both, many_users, 0.001, both_ways=False)] == [300]
    assert not list(find_pure_cells(both, one_user, 0.001, both_ways=False)), (
        "300 rows of one user prove nothing"
    )
    assert cells.names == ("any other value", "x")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("base", [0.03, 0.3, 0.8])
def test_columns_without_leakage_are_clean(seed: int, base: float) -> None:
    rng, labels = random_labels(seed, base=base)
    report = refuse_leaks(guard_data_of(clean_columns(rng, labels), labels))
    assert report.verdict == "clean"
    assert not report.findings
    control = report.control["table"]
    assert control["limit_low"] < control["auc"] < control["limit_high"]


def leaking_columns(rng: np.random.Generator, labels: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Columns that reveal the label, with the check that must find them."""
    n = len(labels)
    kind = np.array(["Young", "Adult", "Senior"])[rng.integers(0, 3, n)]
    suffix = np.where(labels | (rng.random(n) < 0.2), " Buyer", " Browser")
    return {
        "segment": ("b", np.char.add(kind, suffix)),
        "some_buyers_only": ("b", np.where(labels & (rng.random(n) < 0.5), "card", "none")),
        "order_value": ("b", np.where(labels, rng.gamma(2, 30, n), np.nan)),
        "spent_later": ("a", np.where(labels, rng.gamma(2, 30, n), rng.gamma(2, 1, n))),
        "flag": ("b", labels.astype(float)),
    }


@pytest.mark.parametrize("name", ["segment", "some_buyers_only", "order_value", "spent_later", "flag"])
@pytest.mark.parametrize("seed", SEEDS)
def test_leaks_are_refused_by_name_with_evidence(seed: int, name: str) -> None:
    rng, labels = random_labels(seed)
    check, values = leaking_columns(rng, labels)[name]
    guard_data = guard_data_of({**clean_columns(rng, labels), name: values}, labels)
    report = inspect_leakage(guard_data)
    assert report.refused == (name,)
    assert check in {finding.check for finding in report.findings}
    error = report.error()
    assert isinstance(error, LeakageError)
    assert name in error.message
    assert f"--allow-leak {name}" in error.remedy
    for finding in report.findings:
        assert finding.evidence["n"] > 0
        assert finding.evidence["low"] <= finding.evidence["high"]


def test_allowed_column_passes_and_the_others_are_inspected_without_it() -> None:
    rng, labels = random_labels(1)
    _, values = leaking_columns(rng, labels)["flag"]
    guard_data = guard_data_of({**clean_columns(rng, labels), "flag": values}, labels)
    report = refuse_leaks(guard_data, ["flag"])
    assert (report.verdict, report.allowed, report.refused) == ("leaky", ("flag",), ())
    assert {finding.verdict for finding in report.findings} == {"allowed"}
    metrics = report.model["table"]
    assert metrics["auc"] > 0.99
    assert 0.6 < metrics["without"]["auc"] < 0.85
    assert metrics["without"]["columns"] == ["flag"]
    with pytest.raises(InputError, match="no column 'flagg' to allow") as refused:
        refuse_leaks(guard_data, ["flagg"])
    assert "flag" in refused.value.remedy


def test_implausibly_good_model_names_the_column_it_depends_on() -> None:
    """Two columns that reveal the label together, and neither alone."""
    rng, labels = random_labels(2, base=0.5)
    half = rng.integers(0, 2, len(labels))
    columns = {
        **clean_columns(rng, labels),
        "half": half + 0.3 * rng.random(len(labels)),
        "other_half": (half ^ labels) + 0.3 * rng.random(len(labels)),
    }
    guard_data = guard_data_of(columns, labels)
    report = inspect_leakage(guard_data)
    assert [finding.check for finding in report.findings] == ["f"]
    assert report.refused[0] in {"half", "other_half"}
    assert report.findings[0].evidence["auc_without_column"] < 0.9
    allowed = inspect_leakage(guard_data, report.refused)
    assert (allowed.verdict, allowed.findings) == ("leaky", ())
    assert allowed.model["table"]["without"]["auc"] < 0.9


def test_sample_has_the_base_rate_of_the_population() -> None:
    rng, labels = random_labels(3, n=60_000, base=0.05)
    guard_data = guard_data_of(
        {"plan": np.where(labels, "a", np.where(rng.random(60_000) < 0.5, "a", "b"))}, labels
    )
    sampling = plan_sampling(labels, 20_000)
    selected = sampling.select(guard_data.rows, 7)
    sampled = GuardData(
        rows=guard_data.rows[selected].reset_index(drop=True),
        matrix=guard_data.matrix[selected],
        feature_set=guard_data.feature_set,
        sampling=sampling,
        labelled=guard_data.labelled,
        lake=None,
        as_of=None,
        seed=7,
    )
    sample = draw_sample(sampled, "table", 8_000)
    assert 7_500 < len(sample.rows) < 8_500
    assert sample.row_labels.base_rate == pytest.approx(labels.mean(), rel=0.03)
    weighted = np.average(sample.row_labels.bought, weights=sample.weights)
    assert weighted == pytest.approx(labels.mean(), rel=0.03)
