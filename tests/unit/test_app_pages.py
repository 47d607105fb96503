"""Each page on its own, with nothing behind it: it says what is missing and never shows a trace."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import charts, words
from retail_core.processes import free_port

APP = Path(__file__).resolve().parents[2] / "app"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETAIL_HOME", str(tmp_path))
    monkeypatch.setenv("RETAIL_API_PORT", str(free_port()))
    monkeypatch.setenv("RETAIL_MONGODB_URI", f"mongodb://user:hidden@127.0.0.1:{free_port()}")


def page(name: str) -> AppTest:
    return AppTest.from_file(str(APP / "pages" / name), default_timeout=30)


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


def test_the_monitor_names_what_is_away_and_hides_secrets() -> None:
    at = page("monitor.py").run()
    assert not at.exception
    said = " ".join(warning.value for warning in at.warning)
    assert "The service at" in said
    assert "MongoDB" in said
    assert "hidden" not in said


def test_words_name_population_and_base_rate() -> None:
    metrics = {
        "n": 12000,
        "positives": 600,
        "base_rate": 0.05,
        "population": "eligible users",
        "first_cutoff": "2025-05-01T00:00:00Z",
        "last_cutoff": "2025-05-07T00:00:00Z",
    }
    assert words.measured_on(metrics) == (
        "Measured on 12,000 rows · 600 of them buyers · base rate 5.00% · eligible users · "
        "cut-offs 2025-05-01 to 2025-05-07"
    )
    assert words.share(None) == "n/a"
    assert "too few" in words.certificate(None, None)


def test_charts_hold_every_user_and_the_chosen_point() -> None:
    probability = pd.Series([0.9, 0.5, 0.1, 0.1])
    bars = charts.probability_histogram(probability, 0.5).to_dict()
    rows = next(iter(bars["datasets"].values()))
    assert sum(row["users"] for row in rows) == 4
    gain = charts.gain_curve(probability, 2).to_dict()
    chosen = next(rows[0] for rows in gain["datasets"].values() if len(rows) == 1)
    assert chosen["reached"] == pytest.approx(1.4 / 1.6)
