"""Reasons are sentences with units, the most important first, one per topic."""

from __future__ import annotations

import numpy as np
import pytest

from retail_core.arrays import Float32Array
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.kinds import Count, Feature, FeatureDefinition
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import FeatureWindow
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explanations import reasons as reasons_module
from retail_core.model.explanations import wording
from retail_core.model.explanations.reasons import explain_rows, format_reasons
from retail_core.model.explanations.wording import FeatureValues
from retail_core.model.families import MODEL_FAMILIES
from retail_core.model.feature_matrix import MISSING
from tests.rankers import small_config

FEATURES = default_feature_set(PredictionTask()).select(
    [
        "view_item_count_1d",
        "view_item_count_28d",
        "hours_since_view_item",
        "hours_since_purchase",
        "purchase_count_28d",
        "cart_count",
        "cart_oldest_hours",
        "weekend",
    ]
)
ALL_FEATURES = default_feature_set(
    PredictionTask(),
    [AttributeEncoding("platform", "category", ("ios", "web")), AttributeEncoding("age", "number")],
)


def rows_of(size: int, seed: int) -> tuple[Float32Array, np.ndarray]:
    """Carts raise the odds, a long time since the last view lowers them; other features are noise."""
    rng = np.random.default_rng(seed)
    columns = dict.fromkeys(FEATURES.columns, np.zeros(size))
    columns["cart_count"] = rng.integers(0, 4, size)
    columns["cart_oldest_hours"] = np.where(columns["cart_count"] > 0, rng.gamma(1, 5, size), MISSING)
    columns["view_item_count_1d"] = rng.integers(0, 9, size)
    columns["view_item_count_28d"] = columns["view_item_count_1d"] + rng.integers(0, 40, size)
    columns["hours_since_view_item"] = rng.gamma(1, 50, size)
    columns["purchase_count_28d"] = rng.integers(0, 3, size)
    bought = columns["purchase_count_28d"] > 0
    columns["hours_since_purchase"] = np.where(bought, rng.gamma(1, 90, size), MISSING)
    columns["weekend"] = rng.integers(0, 2, size)
    odds = -2.5 + 1.2 * columns["cart_count"] - 0.02 * columns["hours_since_view_item"]
    matrix = np.column_stack([columns[name] for name in FEATURES.columns]).astype(np.float32)
    return matrix, rng.random(size) < 1 / (1 + np.exp(-odds))


def row(**values: float) -> list[float]:
    columns = dict.fromkeys(FEATURES.columns, 0.0) | values
    return [columns[name] for name in FEATURES.columns]


FULL = row(
    cart_count=3,
    cart_oldest_hours=5.2,
    view_item_count_1d=14,
    view_item_count_28d=30,
    hours_since_view_item=0.2,
    hours_since_purchase=np.nan,
)
IDLE = row(cart_oldest_hours=np.nan, hours_since_view_item=300, hours_since_purchase=80, purchase_count_28d=2)


@pytest.fixture(scope="module", params=list(MODEL_FAMILIES))
def model(request: pytest.FixtureRequest) -> CalibratedRanker:
    matrix, labels = rows_of(4_000, 1)
    return CalibratedRanker({"daily": small_config(request.param).build(1).fit(matrix, labels)})


def test_full_cart_raises_and_long_inactivity_lowers(model: CalibratedRanker) -> None:
    (full,) = explain_rows(model, FEATURES, np.array([FULL]))
    (idle,) = explain_rows(model, FEATURES, np.array([IDLE]), max_reasons=99)
    assert (full[0].text, full[0].effect) == ("3 items in the cart for 5 h", "raises")
    lowering = [reason.text for reason in idle if reason.effect == "lowers"]
    assert "nothing in the cart" in lowering
    assert any(text.startswith("no item view") and text.endswith("12 days ago") for text in lowering)
    for reasons in (full, idle):
        assert [reason.share for reason in reasons] == sorted(
            (reason.share for reason in reasons), reverse=True
        )
        assert 0 < sum(reason.share for reason in reasons) <= 1 + 1e-12
    assert explain_rows(model, FEATURES, np.array([FULL]), max_reasons=1) == [full[:1]]


def test_nulls_give_the_same_reasons_as_nan_or_as_missing_number(model: CalibratedRanker) -> None:
    rows = np.array([FULL, IDLE])
    as_numbers = np.where(np.isnan(rows), MISSING, rows).astype(np.float32)
    assert [format_reasons(reasons) for reasons in explain_rows(model, FEATURES, rows)] == [
        format_reasons(reasons) for reasons in explain_rows(model, FEATURES, as_numbers)
    ]


def test_each_topic_is_one_reason() -> None:
    matrix, labels = rows_of(2_000, 2)
    model = CalibratedRanker({"daily": small_config("lightgbm").build(1).fit(matrix, labels)})
    explained = explain_rows(model, FEATURES, matrix[:40], max_reasons=99)
    for reasons in explained:
        assert len({reason.text for reason in reasons}) == len(reasons)
        assert sum("cart" in reason.text for reason in reasons) <= 1
        assert sum("purchase" in reason.text for reason in reasons) <= 1
        assert sum(reason.share for reason in reasons) == pytest.approx(1)


def topic_sentences(feature_set: FeatureSet, fill: float | None) -> dict[tuple[str, str], str]:
    """The sentence of each topic where all features have the value `fill`."""
    values = FeatureValues(feature_set.task, dict.fromkeys(feature_set.columns, fill))
    return {
        topic: reasons_module._reason_text(topic, values, [feature_set.columns[place] for place in places])
        for topic, places in reasons_module._columns_by_topic(feature_set).items()
    }


@pytest.mark.parametrize("fill", [None, 0.0, 1.0, 2.0, 7.25])
def test_every_feature_has_a_sentence(fill: float | None) -> None:
    sentences = topic_sentences(ALL_FEATURES, fill)
    assert len(sentences) == len(set(sentences.values())), "no two of them say the same"
    for text in sentences.values():
        assert not any(mark in text for mark in ("nan", "None", "1e+09", "`", "_", "never")), text
        assert text[0] not in "=+-@", "safe in a spreadsheet"
        assert len(text) < 110, text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"purchase_count_28d": 2.0, "hours_since_purchase": 80.0},
            "2 purchases in the last 28 days, the last 3 days ago",
        ),
        ({"purchase_count_28d": 0.0, "hours_since_purchase": None}, "no purchase in the last 28 days"),
        ({"purchase_count_28d": 1.0}, "1 purchase in the last 28 days"),
        ({"purchase_count_28d": None}, "purchases in the last 28 days: unknown"),
    ],
)
def test_purchases_and_time_since_the_last(values: dict[str, float | None], text: str) -> None:
    task = PredictionTask()
    assert wording.events(FeatureValues(task, values), "purchase", task.windows[-1]) == text


def test_day_is_compared_with_the_user_s_usual_rate() -> None:
    task = PredictionTask()
    day = next(window for window in task.windows if window.label == "1d")
    values: dict[str, float | None] = {"view_item_count_1d": 14.0, "view_item_count_28d": 14.0 + 27 * 6.5}
    assert wording.events(FeatureValues(task, values), "view_item", day) == (
        "14 item views in the last day, 2.2 times the usual"
    )
    usual: dict[str, float | None] = {"view_item_count_1d": 6.0, "view_item_count_28d": 168.0}
    assert wording.events(FeatureValues(task, usual), "view_item", day) == "6 item views in the last day"


def test_new_feature_definition_needs_no_wording() -> None:
    window = FeatureWindow("3d", 3 * 24 * 3_600_000_000)
    brands = FeatureDefinition(
        "distinct_brands", Count(None), "all", "brands", "Distinct brands.", "no event"
    )
    feature = Feature("distinct_brands_3d", brands.kind, window, brands)
    assert wording.generic(feature, 4.0) == "4 distinct brands in the last 3 days"
    assert wording.generic(feature, 1.0) == "1 distinct brand in the last 3 days"
    assert wording.generic(feature, None) == "distinct brands in the last 3 days: no event"
    rate = FeatureDefinition("pace", Count(None), None, "ratio", "Events per hour; more is faster.")
    assert wording.generic(Feature("pace", rate.kind, None, rate), 1.25) == "events per hour: 1.25"
    task = PredictionTask()
    opened: dict[str, float | None] = {"mail_opened_count_28d": 2.0}
    assert wording.events(FeatureValues(task, opened), "mail_opened", task.windows[-1]) == (
        "2 mail opened events in the last 28 days"
    )


def test_attribute_sentence_states_its_value() -> None:
    values = FeatureValues(
        ALL_FEATURES.task, {"attr_platform=ios": 0.0, "attr_platform=web": 1.0, "attr_age": 31.0}
    )
    assert wording.attribute("platform", values) == "platform is web"
    assert wording.attribute("age", values) == "age: 31"


@pytest.mark.parametrize(
    ("newest", "oldest", "text"),
    [
        (5.0, 5.2, "2 items in the cart for 5 h"),
        (0.5, 90.0, "2 items in the cart for 30 min to 4 days"),
        (3.0, 20.0, "2 items in the cart for 3 to 20 h"),
        (None, None, "2 items in the cart"),
    ],
)
def test_cart_sentence_states_newest_and_oldest_item(
    newest: float | None, oldest: float | None, text: str
) -> None:
    values = {"cart_count": 2.0, "cart_newest_hours": newest, "cart_oldest_hours": oldest}
    assert wording.cart(FeatureValues(ALL_FEATURES.task, values)) == text


def test_cart_additions_and_cart_content_are_one_topic() -> None:
    columns = ["add_to_cart_count_1d", "cart_count"]
    full: dict[str, float | None] = {"add_to_cart_count_1d": 2.0, "cart_count": 2.0}
    assert (
        reasons_module._reason_text(("cart", ""), FeatureValues(ALL_FEATURES.task, full), columns)
        == "2 items in the cart"
    )
    bought: dict[str, float | None] = {"add_to_cart_count_1d": 2.0, "cart_count": 0.0}
    row = FeatureValues(ALL_FEATURES.task, bought)
    assert (
        reasons_module._reason_text(("cart", ""), row, columns) == "2 additions to the cart in the last day"
    )
    assert reasons_module._reason_text(("cart", ""), row, columns[::-1]) == "nothing in the cart"


def test_sentences_without_their_features_use_the_definition() -> None:
    alone = FeatureValues(ALL_FEATURES.task, {"carted_not_bought": 1.0})
    assert (
        reasons_module._reason_text(("cart", ""), alone, ["carted_not_bought"])
        == "carted and not bought since"
    )
    recent = FeatureValues(ALL_FEATURES.task, {"hours_since_purchase": 30.0})
    assert reasons_module._reason_text(("events", "purchase"), recent, ["hours_since_purchase"]) == (
        "since the last purchase: 30 h"
    )


def test_special_wordings_name_existing_features() -> None:
    entries = {feature.definition.name for feature in expand_definitions(PredictionTask()).values()}
    assert entries >= {*wording.FEATURE_SUBJECTS, *wording.FLAG_TEXTS, *reasons_module._TOPIC_BY_FORMULA}


def test_a_missing_value_is_never_a_reason() -> None:
    """A null of the whole context, of an attribute, or of a count that was not sent."""
    given = dict.fromkeys(ALL_FEATURES.columns, 1.0) | {
        name: None for name in ALL_FEATURES.columns if name.startswith(("shop_", "attr_age"))
    }
    row = FeatureValues(ALL_FEATURES.task, given)
    columns_by_topic = reasons_module._columns_by_topic(ALL_FEATURES).items()
    texts = {
        topic: reasons_module._known_text(topic, row, [ALL_FEATURES.columns[index] for index in indices])
        for topic, indices in columns_by_topic
    }
    missing = {topic for topic, text in texts.items() if text is None}
    assert missing == {topic for topic in texts if topic[1].startswith("shop_") or topic[1] == "age"}
    nothing = FeatureValues(ALL_FEATURES.task, dict.fromkeys(ALL_FEATURES.columns))
    assert {
        reasons_module._known_text(topic, nothing, [ALL_FEATURES.columns[index] for index in indices])
        for topic, indices in columns_by_topic
    } == {None}


def test_reasons_explain_the_row_as_scored_and_state_the_row_as_given(model: CalibratedRanker) -> None:
    scored = np.array([FULL])
    cart = FEATURES.columns.index("cart_count")
    given = scored.copy()
    given[:, [cart, cart + 1]] = np.nan
    (reasons,) = explain_rows(model, FEATURES, given, scored=scored, max_reasons=99)
    assert not any("cart" in reason.text for reason in reasons)
    assert reasons
