"""The mapping that is proposed for a file, with the questions that only its owner can answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from retail_core.sources.detection.amount_proposal import add_amounts
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.event_proposal import add_event_types, add_goods, name_orders
from retail_core.sources.detection.file_layout import FileLayout
from retail_core.sources.detection.item_lists import add_item_lists, add_row_amounts
from retail_core.sources.detection.mapping_builder import MappingBuilder, MappingValue, Question
from retail_core.sources.detection.order_lines import fill_down
from retail_core.sources.detection.roles import FieldGuess, assign_fields
from retail_core.sources.detection.row_flags import add_row_flags
from retail_core.sources.detection.user_ids import add_user_ids, user_ids
from retail_core.sources.detection.value_roles import ids_by_values
from retail_core.sources.presets import PRESETS
from retail_core.sources.source import REQUIRED


@dataclass(frozen=True)
class Proposal:
    """A proposed mapping.

    Attributes:
        mapping: keys and values as in a mapping file.
        fields: the column of each event field.
        comments: reason by mapping key, or by `columns.FIELD`.
        missing: required event fields for which no column was found.
        questions: what has to be decided.
        warnings: what is not or not completely read.
        kind: what the rows are.
    """

    mapping: Mapping[str, MappingValue]
    fields: Mapping[str, FieldGuess]
    comments: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    warnings: tuple[str, ...] = ()
    kind: Literal["events", "links", "users"] = "events"

    @property
    def undecided(self) -> bool:
        """Whether the mapping cannot be used before a question is answered."""
        return bool(self.missing) or any(question.choices for question in self.questions)

    def decided(self, choice: int) -> Proposal:
        """The proposal with one of the alternative time formats."""
        formats = self.mapping.get("time")
        if not isinstance(formats, list) or not any(question.choices for question in self.questions):
            return self
        return replace(self, mapping={**self.mapping, "time": [formats[choice]]}, questions=())


def propose(path: Path, layout_guess: FileLayout, columns: Sequence[Column]) -> Proposal:
    """The mapping of a file with these columns."""
    fields = ids_by_values(columns, assign_fields(columns), named=layout_guess.layout.header is None)
    ids = user_ids(columns, fields)
    if ids is not None:
        fields["user_id"] = ids.guess
    builder = MappingBuilder()
    builder.set("name", source_name(path))
    builder.set("columns", {name: _names(guess) for name, guess in fields.items()})
    for name, guess in fields.items():
        builder.comments[f"columns.{name}"] = f"{guess.confidence:.2f} {guess.reason}"
    add_event_types(builder, path, fields, columns)
    name_orders(builder)
    add_goods(builder, fields)
    add_item_lists(builder, fields, columns)
    add_row_amounts(builder, fields)
    add_time(builder, fields.get("event_time"))
    add_layout(builder, layout_guess)
    add_amounts(builder, fields)
    add_row_flags(builder, fields, columns)
    _add_order_lines(builder, fields, columns)
    add_user_ids(builder, ids)
    _add_list_warning(builder, fields)
    constants = builder.mapping.get("constants")
    provided_fields = {*fields, *builder.columns(), *(constants if isinstance(constants, dict) else ())}
    missing = tuple(name for name in REQUIRED if name not in provided_fields)
    return Proposal(
        builder.mapping, fields, builder.comments, missing, tuple(builder.questions), tuple(builder.warnings)
    )


def source_name(path: Path) -> str:
    """A name for the source of a file, from the file's name.

    >>> source_name(Path("2025-01 Orders.csv.gz")), source_name(Path("ga4.csv"))
    ('log-2025-01-orders', 'log-ga4')
    """
    stem = path.name.split(".")[0].lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:28] or "file"
    return name if name[0].isalpha() and name not in PRESETS else f"log-{name}"[:32]


def _names(guess: FieldGuess) -> str | list[str]:
    # A name that ends with a question mark is written with two: one marks optional columns.
    names = [f"{name}?" if name.endswith("?") else name for name in guess.names]
    return names[0] if len(names) == 1 else names


def add_time(builder: MappingBuilder, guess: FieldGuess | None) -> None:
    """Propose how the times of a column are read."""
    if guess is None or guess.columns[0].typed_times:
        return
    times = guess.columns[0].times
    if times is None:
        return
    formats = list(times.formats)
    if len(guess.columns) > 1 and guess.columns[1].is_clock:
        formats = [_with_clock(form, guess.columns[1].values[0]) for form in formats]
    if times.alternatives:
        _ask_for_the_order(builder, guess.columns[0])
    elif formats != ["iso"]:
        single = len(formats) == 1 and "%" not in formats[0]
        builder.set("time", formats[0] if single else formats, f"reads {times.share:.0%} of the values")
    if not times.zoned:
        builder.set("timezone", "UTC", "times have no offset: name the zone in which the file writes them")
        builder.ask(
            "timezone", "In which time zone are the times written? They have no offset; UTC is assumed."
        )


def _with_clock(form: str, clock: str) -> str:
    date = "%Y-%m-%d" if form == "iso" else form
    if re.search(r"[AaPp]\.?[Mm]", clock):
        return f"{date} %I:%M:%S %p" if clock.count(":") == 2 else f"{date} %I:%M %p"
    return f"{date} %H:%M:%S" if clock.count(":") == 2 else f"{date} %H:%M"


def _ask_for_the_order(builder: MappingBuilder, column: Column) -> None:
    times = column.times
    if times is None:
        return
    lines = tuple(f'time: ["{form}"]' for form in times.alternatives)
    hint = ""
    if "." in times.alternatives[0][:4]:
        hint = " Dates with dots usually begin with the day."
    if times.ordered[0] != times.ordered[1]:
        hint = f" Only with {times.alternatives[times.ordered.index(True)]} the rows are in order of time."
    builder.set("time", list(times.alternatives), "keep one of the two: day or month first?")
    builder.ask(
        "time",
        f"Which comes first in {column.name}, the day or the month? Every value, such as "
        f"{column.values[0]!r}, can be read both ways.{hint} The mapping is refused until one is left.",
        *lines,
    )


def add_layout(builder: MappingBuilder, layout_guess: FileLayout) -> None:
    """Propose how the file is laid out."""
    layout = layout_guess.layout
    if layout.encoding != "utf-8":
        builder.set("encoding", layout.encoding, "a guess" if layout_guess.encoding_guessed else "")
        if layout_guess.encoding_guessed:
            builder.ask("encoding", f"Do names with accents look right below? {layout.encoding} is a guess.")
    if layout_guess.kind == "csv":
        for key, value, default in (
            ("delimiter", layout.delimiter, ","),
            ("skip_lines", layout.skip_lines, 0),
            ("comment", layout.comment, None),
        ):
            if value != default:
                builder.set(key, value)
        if layout.header:
            builder.set("header", list(layout.header), "the file has no header line: rename the columns")


def _add_order_lines(
    builder: MappingBuilder, fields: Mapping[str, FieldGuess], columns: Sequence[Column]
) -> None:
    filled = fill_down(fields, columns)
    if filled is None:
        return
    by, names = filled
    builder.set(
        "fill_down", {"by": by, "columns": list(names)}, "further lines of an order leave these columns empty"
    )
    if "order_id" not in fields:
        builder.columns()["order_id"] = by


def _add_list_warning(builder: MappingBuilder, fields: Mapping[str, FieldGuess]) -> None:
    inner = [name for guess in fields.values() for name in guess.names if "[0]" in name]
    if inner:
        builder.warnings.append(
            f"Of the list in {inner[0].partition('[0]')[0]} only the first element is read: a mapping "
            "explodes one list."
        )
