"""Several ids of one user in a file: which one is the user, and what the others are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from retail_core.sources.detection.column_names import (
    is_anonymous_id,
    name_scores,
    qualified_name,
    word_set,
    words,
)
from retail_core.sources.detection.columns import Column, Place
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.roles import FieldGuess, event_places, field_score, id_check
from retail_core.sources.text_cleaning import NULL_MARKERS

_ACCOUNT, _CONTACT, _CLIENT, _ANONYMOUS, _SESSION = range(5)
"""Kinds of ids; of several the first kind names the user, and the last ones live the shortest."""

_CONTACT_WORDS = word_set("email mail phone telephone telefon mobile")
_SESSION_WORDS = word_set("session visit sitzung sesion sessione seance")
_PLACEHOLDERS = word_set(
    "0 -1 guest anonymous anon unknown undefined none nobody visitor gast invite invitado default test "
    "(none) (null) nil #n/a -- [] {} missing deleted 00000000-0000-0000-0000-000000000000"
) | {"(not set)"}
"""Values of ids that stand for no user."""

_MIN_NAME = 0.5
_ACCOUNT_NAME = 0.9
"""Strength of a name from which a second id of accounts is asked about although no row needs it."""
_SESSION_NAME = 0.85
_MIN_GAIN = 0.1
"""Share of the events without an id that a further column must give one."""
_CONSISTENT = 0.95
"""Share of the events with two ids in which the second one always stands beside the same first one."""


@dataclass(frozen=True)
class UserIds:
    """The columns of a file with ids of users.

    Attributes:
        guess: the columns whose ids are used, in their order.
        fallbacks: those of them that are used like the first one where it is empty.
        linked: those that are ids of the same person before it is known by the first one.
        unused: further ids of accounts, of which no row needs one.
        uncovered: events without a value in the first column.
        together: events with a value in the first column and in the first of `linked` or `fallbacks`.
    """

    guess: FieldGuess
    fallbacks: tuple[Column, ...] = ()
    linked: tuple[Column, ...] = ()
    unused: tuple[Column, ...] = ()
    uncovered: int = 0
    together: int = 0


def user_ids(columns: Sequence[Column], fields: Mapping[str, FieldGuess]) -> UserIds | None:
    """The ids of users of a file; None if no column's name says that it has some."""
    guess = fields.get("user_id")
    if guess is None or name_scores(guess.names[0]).get("user_id", 0.0) < _MIN_NAME:
        return None
    exploded = next((c.list_path for field in fields.values() for c in field.columns if c.list_path), None)
    places = event_places([column for column in columns if column.list_path in {None, exploded}])
    used_names = {name for field, other in fields.items() if field not in _SHARED for name in other.names}
    candidates = [
        c for c in columns if c.list_path in {None, exploded} and c.name not in used_names and _is_id(c)
    ]
    ranked = sorted(candidates, key=lambda column: _rank(column, places))
    if not ranked or _kind(ranked[0]) == _SESSION:
        return None
    return _with_others(ranked[0], ranked[1:], places, guess)


_SHARED = frozenset({"user_id", "session_id"})
"""Fields whose columns can also be an id of the user."""


def _kind(column: Column) -> int:
    name_words = set(words(qualified_name(column.name)))
    if name_words & _SESSION_WORDS and name_scores(column.name).get("session_id", 0.0) >= _SESSION_NAME:
        return _SESSION
    if is_anonymous_id(column.name):
        return _ANONYMOUS
    if name_words & _CONTACT_WORDS:
        return _CONTACT
    is_client = "client" in name_words and words(qualified_name(column.name))[0] != "id"
    return _CLIENT if is_client else _ACCOUNT


def _is_id(column: Column) -> bool:
    scores = name_scores(column.name)
    named = scores.get("user_id", 0.0) >= _MIN_NAME or scores.get("session_id", 0.0) >= _SESSION_NAME
    return named and id_check(column) >= _MIN_NAME


def _rank(column: Column, places: frozenset[Place]) -> tuple[int, float]:
    return _kind(column), -field_score("user_id", column, len(column.covered(places)) / len(places))


def _with_others(
    first: Column, other_columns: Sequence[Column], places: frozenset[Place], guess: FieldGuess
) -> UserIds:
    """The ids of users, with those of `other_columns` that give an id to events without one."""
    uncovered = missing = places - first.covered(places)
    fallbacks: list[Column] = []
    linked: list[Column] = []
    for column in other_columns:
        gained = missing & column.covered(places)
        if not gained or len(gained) < _MIN_GAIN * len(missing) or len(fallbacks) + len(linked) == 2:
            continue
        # A session is only a user where nothing that lives longer is.
        (linked if _kind(column) >= _CLIENT or _same_persons(first, column) else fallbacks).append(column)
        missing -= gained
    used = (first, *fallbacks, *linked)
    unused = [
        c for c in other_columns if c not in used and _kind(c) == _ACCOUNT and _name(c) >= _ACCOUNT_NAME
    ]
    second = next(iter((*linked, *fallbacks, *unused)), None)
    together = second.covered(places) & first.covered(places) if second else frozenset[Place]()
    confidence = round(field_score("user_id", first, 1 - len(missing) / len(places)), 2)
    reason = f"by its name {qualified_name(first.name)!r}; {first.summary(example=False)}"
    new_guess = replace(guess, columns=used, confidence=confidence, reason=reason)
    return UserIds(new_guess, tuple(fallbacks), tuple(linked), tuple(unused), len(uncovered), len(together))


def _name(column: Column) -> float:
    return name_scores(column.name).get("user_id", 0.0)


def _same_persons(first: Column, second: Column) -> bool:
    """Whether each value of `second` stands beside one value of `first` in nearly every record with both."""
    if first.list_path is not None or second.list_path is not None:
        return False
    value_by_row = dict(zip(first.rows, first.values, strict=True))
    pairs: dict[str, dict[str, int]] = defaultdict(dict)
    for row, value in zip(second.rows, second.values, strict=True):
        if row in value_by_row:
            beside = value_by_row[row]
            pairs[value][beside] = pairs[value].get(beside, 0) + 1
    total = sum(sum(counts.values()) for counts in pairs.values())
    usual = sum(max(counts.values()) for counts in pairs.values())
    return bool(total) and usual >= _CONSISTENT * total


def add_user_ids(builder: MappingBuilder, ids: UserIds | None) -> None:
    """Propose what the further ids are, and ask about them with the alternatives."""
    if ids is None:
        return
    first = ids.guess.names[0]
    _ask_about_placeholder(builder, ids.guess.columns[0])
    builder.columns()["user_id"] = [first, *(column.name for column in ids.fallbacks)]
    if not ids.fallbacks:
        builder.columns()["user_id"] = first
    if ids.linked:
        _propose_links(builder, first, ids)
    elif ids.fallbacks:
        second = ids.fallbacks[0].name
        builder.ask(
            "columns.user_id",
            f"Are {' and '.join([first, *(c.name for c in ids.fallbacks)])} ids of the same users? Where the "
            f"first is empty ({ids.uncovered:,} events) the second is used, so that one person can become "
            "two users; keep one of them if every event has it.",
            alternatives=(f"user_id: {first}", f"user_id: {second}"),
        )
    if ids.unused:
        other = ids.unused[0].name
        builder.ask(
            "columns.user_id",
            f"Who is the user, {first} or {other}? Both look like ids of accounts ({ids.together:,} events "
            f"have both); {first} is proposed, and {other} is not read.",
            alternatives=(f"user_id: {other}", f"user_id: [{other}, {first}]"),
        )


def _ask_about_placeholder(builder: MappingBuilder, column: Column) -> None:
    """Ask about a value that stands for no user; as an id it would be one giant user."""
    placeholders = [value for value in column.counts if value.lower() in _PLACEHOLDERS]
    count = sum(column.counts[value] for value in placeholders)
    if not placeholders or count < _MIN_GAIN * len(column.values):
        return
    shown, standard = (", ".join(map(_quoted, texts)) for texts in (placeholders, NULL_MARKERS))
    builder.ask(
        "nulls",
        f"Is {shown} in {column.name} ({count:,} of {len(column.values):,} values) a placeholder? As it is "
        "proposed these rows are of one user. `nulls` replaces the list of missing values for all columns.",
        alternatives=(
            f"nulls: [{shown}, {standard}]",
            f"drop: {{{column.name}: [{shown}]}}, to leave these rows out",
        ),
    )


def _quoted(text: str) -> str:
    """A text as YAML reads it back; `repr` would double a backslash."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _propose_links(builder: MappingBuilder, first: str, ids: UserIds) -> None:
    names = [column.name for column in ids.linked]
    builder.set(
        "anonymous_id", names[0] if len(names) == 1 else list(names), f"the user where {first} is empty"
    )
    sessions = [column.name for column in ids.linked if _kind(column) == _SESSION]
    limit = f" {sessions[0]} ends with the visit: without a login each visit is a person." if sessions else ""
    other = "another id of the same person"
    if _kind(ids.linked[0]) >= _CLIENT:
        other = "the id of the same person before the login"
    builder.ask(
        "anonymous_id",
        f"Is {names[0]} {other}? {ids.uncovered:,} events have no {first}; "
        f"they are of the user {names[0]}, and a row with both ids ({ids.together:,} events) links them from "
        f"then on.{limit} Remove the key if devices are shared or these are other persons.",
        alternatives=(
            f"user_id: {first}, without anonymous_id: the events without it are refused",
            f"user_id: [{first}, {', '.join(names)}], without anonymous_id: no links, two users",
            f"user_id: {names[0]}, without anonymous_id",
        ),
    )
