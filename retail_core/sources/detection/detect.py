"""Recognise a preset, or propose a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retail_core.errors import InputError
from retail_core.sources.detection.columns import SAMPLE_ROWS, Column, sample_columns
from retail_core.sources.detection.event_names import canonical_event
from retail_core.sources.detection.file_layout import FileLayout, file_layout
from retail_core.sources.detection.link_proposal import propose_links
from retail_core.sources.detection.mapping_builder import Question
from retail_core.sources.detection.mapping_text import mapping_text, preset_text
from retail_core.sources.detection.proposal import Proposal, propose
from retail_core.sources.detection.trial import Trial, try_source
from retail_core.sources.detection.user_proposal import propose_users
from retail_core.sources.mapping import mapping_from_text
from retail_core.sources.presets import PRESETS
from retail_core.sources.presets.canonical import CANONICAL
from retail_core.sources.raw_table import RawTable
from retail_core.sources.raw_tables import read_raw_tables
from retail_core.sources.source import REQUIRED, Source
from retail_core.sources.text_cleaning import NULL_MARKERS

_ACCEPTED = 0.5
"""Share of the rows that a preset must accept to be recognised."""


@dataclass(frozen=True)
class Detection:
    """What was found about a file.

    Attributes:
        path: the file.
        layout: encoding, delimiter, header; None where a preset reads the file.
        preset: the preset that reads the file; None if there is none.
        text: a mapping file: the proposed mapping, or one that extends the preset.
        trial: what an ingest of the first window would do.
        proposal: the proposed mapping; None if a preset reads the file.
        alternatives: for each choice of an undecided question the trial of that choice.
    """

    path: Path
    text: str
    trial: Trial
    layout: FileLayout | None = None
    preset: str | None = None
    proposal: Proposal | None = None
    alternatives: tuple[tuple[str, Trial], ...] = ()

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the owner of the file has to decide."""
        return self.proposal.questions if self.proposal else ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Required event fields without a column."""
        return self.proposal.missing if self.proposal else ()

    def problem(self) -> InputError | None:
        """Why nothing usable was found; None if the file can be ingested once its questions are answered."""
        if not self.missing:
            return self.trial.problem
        remedy = (
            "name the column in the proposed mapping (--write), under columns, or set a value for all rows "
            "under constants; user id, time and type are required."
        )
        if self.missing == ("event_time", "event_type"):
            remedy = (
                "name these columns in the proposed mapping (--write); if each row describes one user, map "
                "attributes instead (docs/sources.md, files of users)."
            )
        if self.proposal is not None and self.proposal.kind == "links":
            return InputError(
                f"{self.path} looks like a file of identity links, but has no column of times.",
                remedy="add the time from which on the two ids are one person; docs/identity.md says why.",
            )
        names = " and ".join(self.missing)
        return InputError(f"{self.path} has no column that looks like {names}.", remedy=remedy)

    def document(self) -> dict[str, Any]:
        """The result as plain values."""
        trial = {key: value for key, value in vars(self.trial).items() if key != "problem"}
        proposal = self.proposal
        return {
            "file": str(self.path),
            "preset": self.preset,
            "rows_are": proposal.kind if proposal else _rows_of(self.trial),
            "kind": self.layout.kind if self.layout else None,
            "layout": list(self.layout.reasons) if self.layout else [],
            "fields": [_field(guess) for guess in proposal.fields.values()] if proposal else [],
            "mapping": self.text,
            "questions": [asdict(question) for question in self.questions],
            "notes": list(proposal.warnings) if proposal else [],
            **trial,
        }


def _rows_of(trial: Trial) -> str:
    if trial.users and not trial.events:
        return "users"
    return "links" if trial.links and not trial.events else "events"


def _field(guess: Any) -> dict[str, Any]:
    names = list(guess.names)
    return {"field": guess.field, "columns": names, "confidence": guess.confidence, "reason": guess.reason}


def detect(path: Path) -> Detection:
    """The preset that reads a file, or a proposed mapping, with what an ingest would do; nothing is stored.

    Raises:
        InputError: the file is missing, empty, in a format that is not read, or without recognisable fields.
    """
    preset = _matching_preset(path)
    if preset is not None:
        name, trial = preset
        title = f"Preset {name} reads {path.name} as it is: retail ingest FILE --source {name}"
        return Detection(path, preset_text(name, title), trial, preset=name)
    layout_guess = file_layout(path)
    table = _sample(path, layout_guess)
    columns = sample_columns(table, NULL_MARKERS)
    if not columns:
        raise InputError(f"{path} has no values.", remedy="name a file with a header and at least one row.")
    return _proposed(path, layout_guess, columns)


def _proposed(path: Path, layout_guess: FileLayout, columns: Sequence[Column]) -> Detection:
    proposal = (
        propose_links(path, layout_guess, columns)
        or propose_users(path, layout_guess, columns)
        or propose(path, layout_guess, columns)
    )
    text = mapping_text(proposal, f"Proposed by `retail sources detect {path.name}`: check it, then ingest.")
    if proposal.missing:
        return Detection(path, text, Trial(), layout_guess, proposal=proposal)
    if not proposal.undecided:
        return Detection(path, text, _try_proposal(path, proposal), layout_guess, proposal=proposal)
    formats = proposal.mapping["time"]
    names = formats if isinstance(formats, list) else []
    trials = tuple(
        (str(name), _try_proposal(path, proposal.decided(number))) for number, name in enumerate(names)
    )
    return Detection(path, text, trials[0][1], layout_guess, proposal=proposal, alternatives=trials)


def _try_proposal(path: Path, proposal: Proposal) -> Trial:
    """The trial of a mapping as it would be read from its file."""
    return try_source(path, mapping_from_text(mapping_text(proposal, "trial"), users=True))


def _sample(path: Path, layout_guess: FileLayout) -> RawTable:
    """The first records of a file with all columns as text."""
    # No file has these columns, so that no first line is taken for their header.
    columns = dict.fromkeys(REQUIRED, ("\x00",))
    source = Source("sample", columns, layout=layout_guess.layout, properties=None)
    with closing(read_raw_tables(path, source, _any_header)) as tables:  # type: ignore[type-var]
        table, _ = next(tables, (None, 0))
    if table is None:
        raise InputError(f"{path} has no rows.", remedy="fetch the file again, with rows.")
    return table.take(np.arange(min(len(table), SAMPLE_ROWS)))


def _any_header(header: tuple[str, ...], *, complete: bool = True) -> None:
    """Accept every file."""


def _matching_preset(path: Path) -> tuple[str, Trial] | None:
    """The preset that reads most of a file's columns, with its trial; None if none accepts the rows."""
    best: tuple[tuple[float, int], str, Trial] | None = None
    for source in PRESETS.values():
        trial = try_source(path, source)
        if trial.accepted < _ACCEPTED or not _fits(source, trial):
            continue
        rank = (round(trial.accepted, 1) - (source is CANONICAL), -len(trial.unread_columns))
        if best is None or rank > best[0]:
            best = (rank, source.name, trial)
    return best[1:] if best else None


def _fits(source: Source, trial: Trial) -> bool:
    """Whether the events have types that the preset knows, or such that nothing needs to be translated."""
    types: Mapping[str, int] = trial.event_types or {}
    if source.vocabulary and source.layout.header is not None and not source.needs:
        canonical_types = {value for value in source.vocabulary.values() if value}
        return sum(types.get(name, 0) for name in canonical_types) * 2 > trial.events
    translated = [name for name in types if canonical_event(name) not in {None, name}]
    return source is not CANONICAL or not translated
