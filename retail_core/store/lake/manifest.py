"""The lake's manifest: the files of the lake and the ledger windows in them. No input or output here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from retail_core.errors import IntegrityError
from retail_core.log_coverage import last_covered_day

FORMAT = 1
GENERATIONS_KEPT = 3
"""Number of later commits for which a superseded file is kept for readers."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LakeState:
    """Content of the lake.

    Attributes:
        rows: number of events.
        days: UTC event days (YYYY-MM-DD).
        window_id: highest applied ledger window.
        first_event: time of the first event, UTC.
        last_event: time of the last event, UTC, outliers of wrong clocks included.
        newest_event: time of the last event of the last covered day, UTC; see `log_coverage`.
        data_hash: depends on the rows alone, not on their order or on how the lake was synced.
    """

    rows: int
    days: tuple[str, ...]
    window_id: int
    first_event: datetime | None
    last_event: datetime | None
    newest_event: datetime | None
    data_hash: str


@dataclass(frozen=True)
class LakeFile:
    """One Parquet file: path below the lake's root, rows, bytes, content hash, first and last event time.

    Times are microseconds since 1970 UTC.
    """

    path: str
    rows: int
    size: int
    hash: str
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Manifest:
    """One state of the lake; replacing the stored manifest is the commit.

    Attributes:
        source: identity of the copied collection; a lake of another one is rebuilt.
        generation: number of the commit, part of the names of its files.
        applied: applied window ids as inclusive ranges, since windows may be committed out of order.
        days: file by UTC event day.
        users: file of the user attributes, None if there are none.
        retired: files of earlier states that readers may still use, one tuple per commit, the newest first.
    """

    source: str = ""
    generation: int = 0
    applied: Ranges = ()
    days: dict[str, LakeFile] = field(default_factory=dict)
    users: LakeFile | None = None
    retired: tuple[tuple[str, ...], ...] = ()

    @property
    def files(self) -> dict[str, LakeFile]:
        """Current files by path."""
        current = list(self.days.values()) + ([self.users] if self.users else [])
        return {file.path: file for file in current}

    @property
    def protected_paths(self) -> set[str]:
        """Paths of current and retired files, which must not be deleted."""
        return set(self.files).union(*self.retired)

    @property
    def contiguous(self) -> int:
        """Highest window up to which all windows are applied."""
        return self.applied[0][1] if self.applied and self.applied[0][0] <= 1 else 0

    def has_window(self, window_id: int) -> bool:
        """Whether the window is applied."""
        return any(first <= window_id <= last for first, last in self.applied)

    def emptied(self, source: str) -> Manifest:
        """Manifest to start a rebuild from: no window applied; the commit retires every present file."""
        return replace(self, source=source, applied=())

    def advanced(self, windows: Iterable[int], days: dict[str, LakeFile], users: LakeFile | None) -> Manifest:
        """The next state, with `windows` applied and `days` and `users` as its files."""
        after = replace(
            self,
            generation=self.generation + 1,
            applied=add_to_ranges(self.applied, windows),
            days=dict(sorted(days.items())),
            users=users,
        )
        superseded = tuple(sorted(set(self.files) - set(after.files)))
        return replace(after, retired=(superseded, *self.retired)[:GENERATIONS_KEPT])

    def state(self) -> LakeState:
        """Content of the lake in this state."""
        files = self.days.values()
        return LakeState(
            rows=sum(file.rows for file in files),
            days=tuple(self.days),
            window_id=max((last for _, last in self.applied), default=0),
            first_event=_instant(min((file.first for file in files), default=None)),
            last_event=_instant(max((file.last for file in files), default=None)),
            newest_event=_instant(self._newest()),
            data_hash=self._data_hash(),
        )

    def _newest(self) -> int | None:
        newest = last_covered_day({date.fromisoformat(day): file.rows for day, file in self.days.items()})
        return None if newest is None else self.days[newest.isoformat()].last

    def _data_hash(self) -> str:
        lines = [f"{day} {file.rows} {file.hash}" for day, file in sorted(self.days.items())]
        lines.append(f"users {self.users.rows} {self.users.hash}" if self.users else "users 0")
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """JSON text of the stored manifest."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, location: str) -> Manifest:
        """The manifest in `text`; `location` names it in messages.

        Raises:
            IntegrityError: the text is damaged or of another format.
        """
        try:
            content = {FORMAT: json.loads(text)}[json.loads(text)["format"]]
            users = content["users"]
            return cls(
                source=content["source"],
                generation=int(content["generation"]),
                applied=tuple((int(first), int(last)) for first, last in content["applied"]),
                days={day: LakeFile(**fields) for day, fields in content["days"].items()},
                users=LakeFile(**users) if users else None,
                retired=tuple(tuple(paths) for paths in content["retired"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"The lake's manifest {location} cannot be read.",
                remedy="run `retail train` or `retail score`: they rebuild the lake from MongoDB.",
            ) from error


def add_to_ranges(ranges: Ranges, numbers: Iterable[int]) -> Ranges:
    """Inclusive ranges with `numbers` added, ascending and merged.

    >>> add_to_ranges(((1, 3), (7, 7)), [5, 4, 9])
    ((1, 5), (7, 7), (9, 9))
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*ranges, *((number, number) for number in numbers)]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
