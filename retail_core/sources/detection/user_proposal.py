"""Files of users: one row of attributes of a user, without events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retail_core.sources.detection.column_names import (
    is_anonymous_id,
    leaf,
    name_scores,
    word_set,
    words,
)
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.file_layout import FileLayout
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.proposal import Proposal, add_layout, add_time, source_name
from retail_core.sources.detection.roles import FieldGuess, assign_fields
from retail_core.sources.detection.user_ids import user_ids

_DESCRIPTIONS = word_set(
    "age segment gender sex country city region state zip postcode language locale birth birthday "
    "birthdate signup registered registration tier loyalty newsletter optin consent marketing tags "
    "first last firstname lastname group level plan channel acquisition "
    "vorname nachname anrede geschlecht alter ort plz land geburtsdatum registriert kundengruppe "
    "pays ville sexe prenom nom naissance pais ciudad genero nombre apellido"
)
"""Words of columns that describe a user."""

_PERSONAL = word_set(
    "name first last firstname lastname vorname nachname prenom nom nombre apellido email mail phone "
    "telephone telefon mobile street strasse rue calle address adresse direccion ip birth birthday birthdate "
    "dob geburtsdatum naissance note notes password hash company"
)
"""Words of columns that identify a user, which is nothing to learn from."""

_SINCE = word_set(
    "valid since updated effective modified changed snapshot asof gueltig aktualisiert stand exported"
)
"""Words of the time from which values are known."""

_SUMS = word_set(
    "orders order spent revenue purchases purchase ltv lifetime sales umsatz bestellungen bestellung "
    "commandes pedidos total"
)
"""Words of sums over the whole history, which tell the future to an earlier cut-off."""

_MAX_TEXTS = 200
_UNIQUE = 0.98
_OF_EVENTS = ("item_id", "order_id", "quantity", "session_id")


def propose_users(path: Path, layout_guess: FileLayout, columns: Sequence[Column]) -> Proposal | None:
    """A mapping that reads each row as attributes of a user; None if the rows are something else."""
    fields = assign_fields(columns)
    ids = user_ids(columns, fields)
    if ids is None or "event_type" in fields or any(column.list_path for column in columns):
        return None
    user = ids.guess.columns[0]
    since = next((c for c in columns if c.times and _SINCE & set(_words(c))), None)
    described = [c for c in columns if c is not user and _DESCRIPTIONS & set(_words(c))]
    is_one_row_each = len(user.counts) >= _UNIQUE * max(len(user.values), 1)
    if any(name in fields for name in _OF_EVENTS) or not described or not (is_one_row_each or since):
        return None
    guesses = {"user_id": FieldGuess("user_id", (user,), ids.guess.confidence, ids.guess.reason)}
    if since is not None:
        reason = f"by its name {since.name!r}; {since.summary(example=False)}"
        guesses["valid_from"] = FieldGuess("valid_from", (since,), 0.7, reason)
    builder = MappingBuilder()
    builder.set("name", source_name(path))
    builder.set("columns", {"user_id": user.name})
    used = {name for guess in guesses.values() for name in guess.names}
    _add_since(builder, since)
    _add_attributes(builder, [c for c in columns if c.name not in used], dated=since is not None)
    add_time(builder, guesses.get("valid_from"))
    add_layout(builder, layout_guess)
    if not builder.mapping["attributes"]:
        return None
    questions, warnings = tuple(builder.questions), tuple(builder.warnings)
    return Proposal(builder.mapping, guesses, builder.comments, (), questions, warnings, kind="users")


def _words(column: Column) -> list[str]:
    return words(leaf(column.name))


def _add_since(builder: MappingBuilder, since: Column | None) -> None:
    if since is not None:
        builder.set("valid_from", since.name, "the values of a row are known from then on")
        builder.ask(
            "valid_from",
            f"Are the values of a row known from {since.name} on? A value that was entered later must not be "
            "dated back: it would tell a cut-off what was not known then.",
        )
        return
    builder.ask(
        "valid_from",
        "Since when are the values known? No column says so. Without `valid_from: COLUMN` they count in "
        "first-visit rows only; for the days to come, add a column with the date of this export.",
    )


def _add_attributes(builder: MappingBuilder, columns: Sequence[Column], *, dated: bool) -> None:
    kinds: dict[str, object] = {}
    left_out: list[str] = []
    for column in columns:
        kind = _attribute_kind(column, dated=dated)
        if kind is None:
            left_out.append(column.name)
        else:
            kinds[column.name] = kind
    builder.set("attributes", kinds, "each row describes one user; there is no column of event types")
    if left_out:
        builder.warnings.append(
            f"Not proposed as attributes: {', '.join(left_out)}; they identify a user, are times, have a "
            "value of their own in each row, or sum up a whole history."
        )


def _attribute_kind(column: Column, *, dated: bool) -> str | None:
    name_words = set(_words(column))
    is_id = name_scores(column.name).get("user_id", 0.0) >= 0.5 or is_anonymous_id(column.name)
    if column.times is not None or is_id or name_words & _PERSONAL or (name_words & _SUMS and not dated):
        return None
    if column.numbers > 0.95:
        return "number"
    is_own = len(column.counts) > max(_MAX_TEXTS, 1) or len(column.counts) > 0.9 * len(column.values) > 5
    return None if is_own else "text"
