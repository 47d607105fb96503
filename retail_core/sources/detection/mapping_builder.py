"""The keys of a mapping as they are proposed one after another, with comments, questions and warnings."""

from __future__ import annotations

from dataclasses import dataclass

MappingValue = str | int | list[str] | dict[str, object] | None


@dataclass(frozen=True)
class Question:
    """What only the owner of a file can decide.

    Attributes:
        key: key of the mapping that states the answer.
        text: the question, with what is proposed.
        choices: lines of a mapping, one of which is the answer; empty if any value can be.
        alternatives: lines of a mapping that can replace what is proposed.
    """

    key: str
    text: str
    choices: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()


class MappingBuilder:
    """Collects the keys of a mapping with their comments, questions and warnings."""

    def __init__(self) -> None:
        self.mapping: dict[str, MappingValue] = {}
        self.comments: dict[str, str] = {}
        self.questions: list[Question] = []
        self.warnings: list[str] = []

    def set(self, key: str, value: MappingValue, comment: str = "") -> None:
        """Set a key, with the comment beside it."""
        self.mapping[key] = value
        if comment:
            self.comments[key] = comment

    def ask(self, key: str, text: str, *choices: str, alternatives: tuple[str, ...] = ()) -> None:
        """Add a question; `choices` are lines of a mapping, of which one is the answer.

        `alternatives` are lines that can replace what is proposed; without an answer the proposal holds.
        """
        self.questions.append(Question(key, text, choices, alternatives))

    def columns(self) -> dict[str, object]:
        """The columns by event field, to be changed in place."""
        return self._section("columns")

    def lists(self) -> dict[str, object]:
        """The columns made of cells with several values, by name; empty without any."""
        lists = self.mapping.get("lists")
        return lists if isinstance(lists, dict) else {}

    def add_list(self, name: str, cells: dict[str, object]) -> None:
        """Add a column made of cells with several values."""
        self._section("lists")[name] = cells

    def _section(self, key: str) -> dict[str, object]:
        section = self.mapping.setdefault(key, {})
        assert isinstance(section, dict)
        return section
