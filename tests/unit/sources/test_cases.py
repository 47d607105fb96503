"""Small files with one fault each, after public problem reports; every one has one defined outcome.

The files are in `cases`; a file without a mapping of its name is canonical, `ga4_*` is of preset ga4.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.source import Source
from tests.unit.sources.event_rows import read_rows

CASES = Path(__file__).parent / "cases"
TEN = "2025-01-01T10:00:00Z"

OUTCOMES = {
    "nullmarkers.csv": [
        "u7 2025-01-01T12:00:00Z view_item",
        *(f"refused: line {line} userId missing" for line in (2, 3, 5, 6)),
    ],
    "timefallback.csv": [f"u1 {TEN} purchase", "u2 2025-01-01T11:00:05Z purchase"],
    "decimalcomma.csv": [
        "u1 2025-02-01T09:00:00Z purchase price=12.50",
        "u2 2025-02-01T23:00:00Z purchase price=1012.50",
    ],
    "excelsep.csv": [
        "u1 2025-02-01T09:00:00Z purchase price=12.50",
        "u2 2025-02-01T23:00:00Z purchase price=1012.50",
    ],
    "money.csv": [
        "u1 2025-01-01T00:00:00Z purchase price=10.00 currency=USD",
        "u2 2025-01-01T00:00:00Z purchase price=1299.00",
        "u3 2025-01-01T00:00:00Z purchase price=10.00 currency=EUR",
        "u4 2025-01-01T00:00:00Z purchase",
        "u5 2025-01-01T00:00:00Z purchase",
    ],
    "shopify_cont.csv": [
        "a@x.test 2025-01-05T08:00:00Z purchase item_id=S1 price=10.00 quantity=1 order_id=#1",
        "a@x.test 2025-01-05T08:00:00Z purchase item_id=S2 price=5.00 quantity=2 order_id=#1",
        "b@x.test 2025-01-06T08:00:00Z refund item_id=S1 price=7.00 quantity=1 order_id=#2",
    ],
    "datetime2.csv": ["u1 2025-01-31T18:05:00Z purchase"],
    "segment.jsonl": [f"u1 {TEN} purchase item_id=p1 price=12.50 quantity=1 order_id=o1"],
    "negrefund.csv": [
        "u1 2025-01-01T00:00:00Z purchase price=10.00 quantity=1",
        "u1 2025-01-02T00:00:00Z refund price=10.00 quantity=1",
        "u1 2025-01-03T00:00:00Z refund price=10.00 quantity=1",
    ],
    "floatids.csv": [
        f"17850 {TEN} view_item item_id=71",
        "17850 2025-01-01T10:01:00Z purchase item_id=71",
        "007 2025-01-01T10:01:00Z purchase item_id=0071",
    ],
    "sciids.csv": [
        f"1.23457E+17 {TEN} view_item item_id=1",
        "1.23457E+17 2025-01-01T10:01:00Z purchase item_id=2",
        "warning: user_id scientific 2",
    ],
    "ga4_daily.csv": [
        f"u10 {TEN} purchase item_id=A price=5.00 platform=WEB order_id=T1",
    ],
    "ga4_intraday.csv": [
        f"u10 {TEN} purchase item_id=A price=5.00 platform=WEB",
    ],
    "ga4_sci.csv": [
        "1234567890.1735725600 2025-01-01T11:13:20Z purchase",
        f"1.23457E+09 {TEN} purchase",
        "warning: user_pseudo_id scientific 1",
        "warning: event_timestamp scientific 1",
    ],
    "drop.csv": ["u1 2025-01-01T00:00:00Z purchase", "filtered: e event_type page_ping 1"],
    "dup_unused.csv": [f"p1 {TEN} purchase"],
    "identity.csv": [
        f"a1 {TEN} view_item",
        "a1 2025-01-01T10:01:00Z add_to_cart",
        "k1 2025-01-01T10:05:00Z purchase",
        "link: a1 k1 2025-01-01T10:05:00Z",
    ],
    "hm_min.csv": [
        "c1 2018-09-20T00:00:00Z purchase item_id=a1 price=0.05",
        "c1 2018-09-20T00:00:00Z purchase item_id=a1 price=0.05",
        "c2 2018-09-20T00:00:00Z purchase item_id=a1 price=0.00",
        "warning: price price_below_cent 1",
    ],
    "typecase.csv": [
        f"u1 {TEN} Purchase",
        "u1 2025-01-01T10:01:00Z purchase",
        "u1 2025-01-01T10:02:00Z PURCHASE",
        "u1 2025-01-01T10:03:00Z purchased",
        "warning: event_type event_type_similar 3",
    ],
}

ERRORS = {
    "attrmissing.csv": "has no column 'aeg', which the mapping of source attrmiss names; it has 'age'",
    "optionalmissing.csv": "has no column 'prise', 'ordr', 'gone'",
    "ambiguous.csv": "the order of day and month is ambiguous",
}


def _source(name: str) -> sources.Source:
    stem = {"hm_min": "hm"}.get(Path(name).stem, Path(name).stem)
    mapping = CASES / f"{stem}.yaml"
    if mapping.exists():
        return sources.from_mapping(mapping)
    return sources.get_preset("ga4" if stem.startswith("ga4") else "canonical")


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_case_has_its_outcome(name: str) -> None:
    assert read_rows(CASES / name, _source(name)) == OUTCOMES[name]


@pytest.mark.parametrize("name", ERRORS)
def test_a_mapping_that_does_not_fit_is_one_clear_error(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_rows(CASES / name, _source(name))
    assert ERRORS[name] in caught.value.message
    assert "\n" not in str(caught.value)


def test_every_case_has_an_outcome() -> None:
    assert {path.name for path in CASES.iterdir() if path.suffix != ".yaml"} == {*OUTCOMES, *ERRORS}


def test_repeated_lines_that_are_real_are_events_of_their_own() -> None:
    (chunk,) = sources.read_events(CASES / "hm_min.csv", _source("hm_min.csv"))
    assert chunk.events["event_id"].nunique() == 3


@pytest.mark.parametrize(
    "source", [sources.get_preset("ga4"), sources.from_mapping(CASES / "ga4_extended.yaml")]
)
def test_intraday_and_daily_copies_are_one_purchase(source: Source) -> None:
    ids = [
        chunk.events["event_id"].tolist()
        for name in ("ga4_intraday.csv", "ga4_daily.csv")
        for chunk in sources.read_events(CASES / name, source)
    ]
    assert len(ids[0]) == 1
    assert ids[0] == ids[1]
