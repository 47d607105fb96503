"""The format in which a column writes times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

import numpy as np
import pyarrow as pa

from retail_core.sources.source_options import TimeFormat
from retail_core.sources.time_parsing import NOT_A_TIME, UNIX_UNITS, ambiguous_formats, parse_times

_CLOCKS = (
    "",
    " %H",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    ", %H:%M:%S",
    "T%H:%M:%S",
)
_ORDERS = ("%d{0}%m{0}{1}", "%m{0}%d{0}{1}", "{1}{0}%m{0}%d")
_FORMATS = (
    *(
        order.format(mark, year) + clock
        for mark, order, year, clock in product("./-", _ORDERS, ("%Y", "%y"), _CLOCKS)
        if not (order.startswith("{1}") and year == "%y")
    ),
    *(
        date + clock + zone
        for date, clock, zone in product(
            ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y"),
            _CLOCKS,
            ("", " %z"),
        )
    ),
    *(f"{date} %H:%M:%S %z" for date in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d")),
    "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z", "%a %b %d %H:%M:%S %Y", "%Y%m%d", "%Y%m%d%H%M%S",
    "%Y%m%d %H%M%S", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%S%z",
)  # fmt: skip
_PROBES = 12
_MAX_VALUES = 2_000
_GOOD = 0.9
"""Share of the values that a format must read."""
_PLAUSIBLE = (datetime(1995, 1, 1).timestamp() * 1000, datetime(2040, 1, 1).timestamp() * 1000)  # noqa: DTZ001
_NUMERIC = re.compile(r"^\d{9,17}(\.\d+)?$")
_DATE = re.compile(r"^(\d{1,4}[./ -]|\d{8}|[A-Za-z]{3,9}[ ,])")
"""The beginning of a written date; other text need not be compared with every format."""

_CLOCK = re.compile(r"^\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?$")
_ZONED = re.compile(r"(Z|UTC|GMT|[+-]\d\d:?\d\d)$")


@dataclass(frozen=True)
class TimeGuess:
    """How a column writes times.

    Attributes:
        formats: as in a mapping: `iso`, `unix_s`, ..., or one or several strptime formats.
        share: share of the values that these formats read.
        alternatives: two formats that read every value, but as different dates; else empty.
        ordered: for each of `alternatives` whether the times are in order in the file.
        zoned: whether the times state their zone.
        is_date: whether they are dates without a time of day.
    """

    formats: tuple[str, ...]
    share: float
    alternatives: tuple[str, ...] = ()
    ordered: tuple[bool, ...] = ()
    zoned: bool = False
    is_date: bool = False


def _time_format(form: str) -> TimeFormat:
    if form in UNIX_UNITS:
        return TimeFormat("unix", UNIX_UNITS[form])
    return TimeFormat("iso") if form == "iso" else TimeFormat("strptime", formats=(form,))


def is_clock(values: Sequence[str]) -> bool:
    """Whether the values are clock times without a date."""
    return bool(values) and all(_CLOCK.match(value) for value in values[:200])


def guess_times(values: Sequence[str]) -> TimeGuess | None:
    """The format of a column's values in the order of the file; None if they are no times."""
    texts = [value.strip() for value in values[:_MAX_VALUES]]
    if not texts or not any(char.isdigit() for char in texts[0]):
        return None
    if all(_NUMERIC.match(text) for text in texts[:50]):
        unix = _unix(texts)
        if unix or all(map(_NUMERIC.match, texts)):
            return unix
    selected_formats, share = _greedy(texts)
    if not selected_formats or share < _GOOD:
        return None
    is_date = not any(":" in text.removesuffix("00:00:00") for text in texts)
    zoned = not is_date and all(_ZONED.search(text) for text in texts[:50])
    if (
        len(selected_formats) == 1
        and (other := _swapped(selected_formats[0]))
        and _share(texts, other) >= share
    ):
        pair = (selected_formats[0], other)
        return TimeGuess(
            selected_formats, share, pair, tuple(_is_ordered(texts, form) for form in pair), zoned, is_date
        )
    return TimeGuess(selected_formats, share, zoned=zoned, is_date=is_date)


def _unix(texts: list[str]) -> TimeGuess | None:
    shares = [(_share(texts, name), name) for name in UNIX_UNITS]
    share, name = max(shares)
    compact = _share(texts, "%Y%m%d%H%M%S")
    if compact > share:
        return TimeGuess(("%Y%m%d%H%M%S",), compact)
    if share >= _GOOD:
        return TimeGuess((name,), share, zoned=True)
    # A plausible time in one unit is none in the others, so the shares of the units add up.
    units = tuple(name for share, name in sorted(shares, reverse=True) if share * 50 >= 1)
    together = sum(share for share, name in shares if name in units)
    return TimeGuess(units, together, zoned=True) if together >= _GOOD else None


def _greedy(texts: list[str]) -> tuple[tuple[str, ...], float]:
    """The format that reads most values, then those that read most of the rest."""
    selected_formats: list[str] = []
    unread_texts = list(texts)
    while unread_texts and len(selected_formats) < 4:
        form, read = _best(unread_texts, selected_formats)
        if form is None or read * 50 < len(texts):
            break
        selected_formats.append(form)
        unread = np.flatnonzero(_instants(unread_texts, form) == NOT_A_TIME)
        unread_texts = [unread_texts[row] for row in unread]
    return tuple(selected_formats), 1 - len(unread_texts) / len(texts)


def _best(texts: list[str], selected_formats: list[str]) -> tuple[str | None, int]:
    step = max(len(texts) // _PROBES, 1)
    probes = texts[::step][:_PROBES]
    candidates = ["iso", *(UNIX_UNITS if any(map(_NUMERIC.match, probes)) else ())]
    probes = [text for text in probes if _DATE.match(text)]
    candidates += [form for form in _FORMATS if any(_reads(form, text) for text in probes)]
    candidates = [
        form
        for form in candidates
        if form not in selected_formats and not ambiguous_formats([*selected_formats, form])
    ]
    counts = [
        (round(_share(texts, form) * len(texts)), -number, form) for number, form in enumerate(candidates)
    ]
    read, _, form = max(counts, default=(0, 0, None))
    return (form, read) if read else (None, 0)


def _reads(form: str, text: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007 - a zone or none, as the format says
    except (ValueError, OverflowError):
        return False
    return True


def _instants(texts: list[str], form: str) -> np.ndarray:
    instants, _ = parse_times(pa.array(texts, pa.string()), _time_format(form), "UTC", ())
    return instants


def _share(texts: list[str], form: str) -> float:
    """Share of the values that `form` reads as a plausible time."""
    instants = _instants(texts, form)
    valid = (instants > _PLAUSIBLE[0]) & (instants < _PLAUSIBLE[1])
    return float(valid.sum()) / len(texts)


def _swapped(form: str) -> str | None:
    """`form` with day and month exchanged, if it begins with them."""
    if form.startswith("%d") and form[3:5] == "%m":
        return f"%m{form[2]}%d{form[5:]}"
    if form.startswith("%m") and form[3:5] == "%d":
        return f"%d{form[2]}%m{form[5:]}"
    return None


def _is_ordered(texts: list[str], form: str) -> bool:
    steps = np.diff(_instants(texts, form))
    return bool((steps >= 0).all() or (steps <= 0).all())
