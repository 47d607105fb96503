"""Commands and flows make the same options of the same arguments; impossible ones are refused."""

from __future__ import annotations

import pytest

from retail_core.errors import InputError
from retail_core.model.thresholds import DEFAULT_TARGET
from retail_core.training.options import TrainOptions


def test_options_without_arguments_are_the_defaults() -> None:
    options = TrainOptions.from_request(None, "auto", None, 0.95)
    assert options == TrainOptions()
    assert (options.target_recall, options.must_certify) == (DEFAULT_TARGET, False)


def test_requested_recall_must_be_certified_and_cutoffs_are_split() -> None:
    options = TrainOptions.from_request("daily,first-visit", "rf", 0.9, 0.99, ["segment"])
    assert options.policies == ("daily", "first-visit")
    assert (options.model, options.target_recall, options.confidence) == ("rf", 0.9, 0.99)
    assert options.must_certify
    assert options.allow_leak == ("segment",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainOptions(model="xgboost"), "no model family 'xgboost'"),
        (TrainOptions(target_recall=1.2), "recall of 1.2 with confidence 0.95 is out of range"),
        (TrainOptions(target_recall=0.0), "is out of range"),
        (TrainOptions(confidence=1.0), "is out of range"),
    ],
)
def test_impossible_options_are_refused(options: TrainOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        options.check()


def test_recall_one_is_possible() -> None:
    TrainOptions(target_recall=1.0).check()
