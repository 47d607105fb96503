"""Each page on its own, with nothing behind it: it says what is missing and never shows a trace."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import charts
from app import formatting as fmt
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.schemas import TIME_DTYPE, Prediction
from retail_core.scoring.audience_selection import ScoredUsers
from retail_core.subprocesses import free_port

AS_OF = datetime(2025, 1, 29, tzinfo=UTC)
APP = Path(__file__).resolve().parents[3] / "app"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETAIL_HOME", str(tmp_path))
    monkeypatch.setenv("RETAIL_API_PORT", str(free_port()))
    monkeypatch.setenv(
        "RETAIL_MONGODB_URI",
        f"mongodb://user:hidden@127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=300",
    )


def page(name: str) -> AppTest:
    return AppTest.from_file(str(APP / "views" / name), default_timeout=30)


def test_the_score_page_asks_for_a_file_and_says_that_the_service_is_away() -> None:
    at = page("score.py").run()
    assert not at.exception
    assert at.title[0].value == "Score a file"
    assert at.button[0].disabled
    assert "retail serve" in at.warning[0].value


def test_an_upload_is_kept_and_a_service_that_is_away_is_explained() -> None:
    at = page("score.py").run()
    at.file_uploader[0].set_value(("log.csv", b"user_id,event_time,event_type\n", "text/csv")).run()
    assert not at.exception
    assert at.session_state["upload"][0] == "log.csv"
    at.button[0].click().run()
    assert not at.exception
    assert any("does not answer" in warning.value for warning in at.warning)


def test_a_mapping_is_asked_for_and_an_uploaded_one_can_be_edited() -> None:
    at = page("score.py").run()
    at.file_uploader[0].set_value(("log.csv", b"a;b\n", "text/csv")).run()
    at.selectbox[0].set_value("mapping").run()
    assert at.button[0].disabled
    at.file_uploader[1].set_value(("shop.yaml", b"name: my_shop\n", "text/yaml")).run()
    assert at.text_area[0].value == "name: my_shop\n"
    assert not at.button[0].disabled
    at.text_area[0].set_value("name: other\n").run()
    at.button[0].click().run()
    assert not at.exception
    assert at.text_area[0].value == "name: other\n"
    assert any("does not answer" in warning.value for warning in at.warning)


def test_the_audience_page_offers_to_score_and_names_what_is_away() -> None:
    at = page("audience.py").run()
    assert not at.exception
    assert at.title[0].value == "Choose an audience"
    at.button[0].click().run()
    assert not at.exception
    text = " ".join(warning.value for warning in at.warning)
    assert "MongoDB" in text
    assert "hidden" not in text
    assert not at.subheader


def scores_of(probabilities: list[float]) -> ScoredUsers:
    """What the audience page holds once everybody was scored; the model behind it answers nothing."""
    count = len(probabilities)
    everybody = pd.DataFrame(
        {
            "user_id": pd.Series([f"u{place}" for place in range(count)], dtype="str"),
            "as_of": pd.Series(pd.Timestamp(AS_OF), index=range(count)).astype(TIME_DTYPE),
            "model_version": pd.Series("1", index=range(count), dtype="str"),
            "policy": pd.Series("daily", index=range(count), dtype="str"),
            "probability": probabilities,
            "raw_score": probabilities,
            "will_purchase": False,
            "contact": True,
            "rank": range(1, count + 1),
        }
    )
    spec = ModelSpec(
        version="1", run_id="", trained_at=AS_OF, feature_set=default_feature_set(PredictionTask()),
        policies=("daily",), thresholds={"daily": {"no-miss": 0.01, "contact": 0.1, "f1": 0.5}},
        certificates={"daily": None}, reasons={"daily": None}, metrics={"daily": {"base_rate": 0.04}},
        reference={}, data={}, self_test={},
    )  # fmt: skip
    return ScoredUsers(ServedModel(spec, CalibratedRanker()), AS_OF, Prediction.validate(everybody))


def test_an_audience_is_sized_live_and_says_what_to_expect() -> None:
    at = page("audience.py")
    at.session_state["scores"] = scores_of([0.5] * 10 + [0.02] * 90)
    at.run()
    assert not at.exception
    tiles = {metric.label: metric.value for metric in at.metric}
    assert tiles == {
        "To contact": "9",
        "Control group": "1",
        "Expected buyers": "5",
        "Of all expected buyers": "73.5%",
        "Lowest probability": "50.0%",
    }
    text = " ".join(caption.value for caption in at.caption)
    assert "Between 2 and 8 buyers among these 10 users" in text
    assert "all 100 users active in the last 7 days, as of 2025-01-29 00:00 UTC" in text
    assert "mean probability 6.80%" in text
    assert "base rate of the model's test days 4.00%" in text
    at.segmented_control[0].set_value("Cost and value").run()
    assert {metric.label: metric.value for metric in at.metric}["To contact"] == "9"
    at.number_input[0].set_value(1.0)
    at.number_input[1].set_value(80.0).run()
    assert {metric.label: metric.value for metric in at.metric}["To contact"] == "90"
    at.number_input[0].set_value(100.0).run()
    assert not at.exception
    assert "nobody or everybody" in at.error[0].value
    at.segmented_control[0].set_value("A share of the buyers").run()
    assert "certif" in at.error[0].value


def test_the_look_up_asks_for_a_user_and_says_that_the_service_is_away() -> None:
    at = page("user.py").run()
    assert not at.exception
    at.text_input[0].set_value("u1")
    at.button[0].click().run()
    assert not at.exception
    assert any("does not answer" in warning.value for warning in at.warning)


def test_the_monitor_names_what_is_away_and_hides_secrets() -> None:
    at = page("monitor.py").run()
    assert not at.exception
    text = " ".join(warning.value for warning in at.warning)
    assert "The service at" in text
    assert "MongoDB" in text
    assert "hidden" not in text


def test_words_name_population_and_base_rate() -> None:
    metrics = {
        "n": 12000,
        "positives": 600,
        "base_rate": 0.05,
        "population": "eligible users",
        "first_cutoff": "2025-05-01T00:00:00Z",
        "last_cutoff": "2025-05-07T00:00:00Z",
    }
    assert fmt.measured_on(metrics) == (
        "Measured on 12,000 rows · 600 of them buyers · base rate 5.00% · eligible users · "
        "cut-offs 2025-05-01 to 2025-05-07"
    )
    assert fmt.share(None) == "n/a"
    assert fmt.reasons("raises: 2 searches; lowers: no purchase") == "▲ 2 searches   ▼ no purchase"
    assert fmt.reasons("") == ""
    assert "too few" in fmt.certificate(None, None)


def test_charts_hold_every_user_and_the_chosen_point() -> None:
    probability = pd.Series([0.9, 0.5, 0.1, 0.1])
    bars = charts.probability_histogram(probability, 0.5).to_dict()
    rows = next(iter(bars["datasets"].values()))
    assert sum(row["users"] for row in rows) == 4
    gain = charts.gain_curve(probability, 2).to_dict()
    chosen_point = next(rows[0] for rows in gain["datasets"].values() if len(rows) == 1)
    assert chosen_point["reached"] == pytest.approx(1.4 / 1.6)
