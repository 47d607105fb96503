"""Files of identity links, in which a row says that two ids are one person from a time on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retail_core.sources.detection.column_names import (
    is_anonymous_id,
    name_scores,
    qualified_name,
    word_set,
    words,
)
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.file_layout import FileLayout
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.proposal import Proposal, add_layout, add_time, source_name
from retail_core.sources.detection.roles import FieldGuess, assign_fields, field_score, id_check

_PREVIOUS = word_set("from old previous prev alias source secondary duplicate merged former alt alte")
_KNOWN = word_set("to new target primary canonical main master neu neue")
_LINK = "link"
_MAX_OTHER_COLUMNS = 2
_OF_EVENTS = ("event_type", "item_id", "order_id", "price", "quantity")
_NAMED = 0.6
"""Strength of a name from which a column makes the rows events."""


def propose_links(path: Path, layout_guess: FileLayout, columns: Sequence[Column]) -> Proposal | None:
    """A mapping that reads each row as a link; None if these are no links."""
    ids = [column for column in columns if _is_id(column)]
    previous = next((column for column in ids if _is_previous(column)), None)
    anonymous = previous or next((column for column in ids if _is_anonymous(column, ids)), None)
    account = next((column for column in _by_rank(ids) if column is not anonymous), None)
    fields = assign_fields(columns)
    if anonymous is None or account is None or "event_type" in fields:
        return None
    if any(
        name_scores(c.name).get(name, 0.0) >= _NAMED for c in columns if c not in ids for name in _OF_EVENTS
    ):
        return None
    times = sorted((c for c in columns if c.times), key=lambda c: -field_score("event_time", c, c.fill))
    if len(columns) - len(times) - 2 > _MAX_OTHER_COLUMNS:
        return None
    guesses = {"user_id": _guess("user_id", account), "previous id": _guess("previous id", anonymous)}
    if times:
        guesses["event_time"] = _guess("event_time", times[0])
    builder = _links_mapping(path, guesses, previous=previous is not None)
    add_time(builder, guesses.get("event_time"))
    add_layout(builder, layout_guess)
    missing = () if times else ("event_time",)
    questions = tuple(builder.questions)
    return Proposal(
        builder.mapping, guesses, builder.comments, missing, questions, tuple(builder.warnings), kind="links"
    )


def _links_mapping(path: Path, guesses: dict[str, FieldGuess], *, previous: bool) -> MappingBuilder:
    account, anonymous = guesses["user_id"].names[0], guesses["previous id"].names[0]
    builder = MappingBuilder()
    builder.set("name", source_name(path))
    builder.set(
        "columns", {name: guesses[name].names[0] for name in ("user_id", "event_time") if name in guesses}
    )
    builder.set("constants", {"event_type": _LINK}, "no row is an event")
    builder.set("identity_events", [_LINK], "each row links two ids (docs/identity.md)")
    key = "previous_id" if previous else "anonymous_id"
    builder.set(key, anonymous)
    builder.ask(
        "identity_events",
        f"Does each row say that {anonymous} is the person {account} from then on? The file has two ids and "
        "no event type, so that its rows are read as identity links and give no events.",
        alternatives=(
            f"user_id: {anonymous} and {key}: {account}, if it is the other way round",
            "constants: {event_type: screen_view} without identity_events, if each row is an act of a user",
        ),
    )
    return builder


def _guess(name: str, column: Column) -> FieldGuess:
    confidence = max(0.5, round(name_scores(column.name).get(name, 0.0), 2))
    return FieldGuess(name, (column,), confidence, f"by its name; {column.summary(example=False)}")


def _name_words(column: Column) -> list[str]:
    return words(qualified_name(column.name))


def _is_id(column: Column) -> bool:
    named = name_scores(column.name).get("user_id", 0.0) >= 0.5 or _name_words(column)[-1:] in (
        ["id"],
        ["uuid"],
    )
    return named and column.list_path is None and column.times is None and id_check(column) >= 0.5


def _is_previous(column: Column) -> bool:
    return bool(_PREVIOUS & set(_name_words(column)))


def _is_anonymous(column: Column, ids: Sequence[Column]) -> bool:
    """Whether an id is one before the login; that of a client beside an id of accounts is too."""
    is_client = _name_words(column)[:1] == ["client"] and len(ids) > 1
    return is_anonymous_id(column.name) or is_client


def _by_rank(ids: Sequence[Column]) -> list[Column]:
    """Ids of accounts first, then those marked as new, then others; never an anonymous one."""

    def rank(column: Column) -> float:
        is_new = bool(_KNOWN & set(_name_words(column)))
        return -(name_scores(column.name).get("user_id", 0.0) + is_new)

    lasting_ids = [c for c in ids if not is_anonymous_id(c.name) and not _is_previous(c)]
    named = [
        c
        for c in lasting_ids
        if name_scores(c.name).get("user_id", 0.0) >= 0.5 or _KNOWN & set(_name_words(c))
    ]
    return sorted(named, key=rank)
