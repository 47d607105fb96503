"""Each preset is named for its vendor's own files, whichever rows, columns and packing an export has."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources.detection import detect
from retail_core.sources.presets.snowplow import TSV_COLUMNS
from retail_core.sources.source import REQUIRED
from tests.unit.sources.detection.preset_files import PRESET_FILES

EXPORTS = Path(__file__).parents[1] / "vendor_exports"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(EXPORTS.iterdir())} | PRESET_FILES


def _preset(name: str) -> str:
    return name.partition(".")[0].partition("-")[0]


def _is_json(text: str) -> bool:
    return text.startswith("{")


def _delimiter(name: str) -> str:
    return "\t" if name.endswith(".tsv") else ","


def _has_header(name: str) -> bool:
    return not _is_json(FILES[name]) and name not in {"snowplow.tsv", "taobao"}


def _has_free_case(name: str) -> bool:
    """The names of canonical columns are exact, because every other column becomes a property."""
    return _has_header(name) and name != "canonical"


def _events_by_line(name: str, folder: Path) -> Iterator[tuple[int, str]]:
    path = folder / "all"
    path.write_text(FILES[name], encoding="utf-8")
    for chunk in sources.read_events(path, sources.get_preset(_preset(name))):
        yield from zip(chunk.lines.tolist(), chunk.events["event_type"].tolist(), strict=True)


def _only(name: str, folder: Path, types: frozenset[str]) -> str | None:
    """The file with only the lines that give an event of one of `types`; None if it has no such line."""
    lines = FILES[name].splitlines(keepends=True)
    used = {line for line, event_type in _events_by_line(name, folder) if event_type in types}
    if not used:
        return None
    header = lines[:1] if _has_header(name) else []
    return "".join([*header, *(lines[line - 1] for line in sorted(used))])


def _records(name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(FILES[name]), delimiter=_delimiter(name)))


def _table(name: str, records: Iterable[Sequence[str]]) -> str:
    content = io.StringIO()
    csv.writer(content, delimiter=_delimiter(name), lineterminator="\n").writerows(records)
    return content.getvalue()


def _renamed(name: str, rename: Callable[[str], str]) -> str:
    header, *rows = _records(name)
    return _table(name, [[rename(column) for column in header], *rows])


def _reversed_columns(name: str) -> str | None:
    if _is_json(FILES[name]):
        lines = [json.loads(line) for line in FILES[name].splitlines()]
        return "".join(json.dumps(dict(reversed(line.items()))) + "\n" for line in lines)
    if not _has_header(name):
        return None
    return _table(name, [record[::-1] for record in _records(name)])


def _needed(name: str) -> frozenset[str]:
    """Columns without which the preset refuses the file."""
    preset, header = sources.get_preset(_preset(name)), tuple(_records(name)[0])
    needed = {column for column in header if preset.missing_columns(tuple({*header} - {column}))}
    required = (preset.columns.get(field, ()) for field in REQUIRED)
    return frozenset(needed.union(*required, {"order_date"}))  # of which WooCommerce's times are made


def _without_optional_columns(name: str) -> str | None:
    """The file without every second column that its preset can do without."""
    if not _has_header(name):
        return None
    header, needed = _records(name)[0], _needed(name)
    optional = [place for place, column in enumerate(header) if column not in needed]
    dropped = set(optional[::2])
    rows = [[cell for place, cell in enumerate(row) if place not in dropped] for row in _records(name)]
    return _table(name, rows)


PURCHASES = frozenset({"purchase"})
VIEWS = frozenset({"view_item", "view_item_list", "screen_view"})
ACTIONS = frozenset({"add_to_cart", "remove_from_cart", "begin_checkout", "refund", "add_to_wishlist"})

Variant = Callable[[str, Path], str | bytes | None]
VARIANTS: dict[str, Variant] = {
    "as it is": lambda name, _: FILES[name],
    "purchases only": lambda name, folder: _only(name, folder, PURCHASES),
    "views only": lambda name, folder: _only(name, folder, VIEWS),
    "carts and refunds only": lambda name, folder: _only(name, folder, ACTIONS),
    "gz": lambda name, _: gzip.compress(FILES[name].encode()),
    "upper case": lambda name, _: _renamed(name, str.upper) if _has_free_case(name) else None,
    "lower case": lambda name, _: _renamed(name, str.lower) if _has_free_case(name) else None,
    "columns reversed": lambda name, _: _reversed_columns(name),
    "fewer columns": lambda name, _: _without_optional_columns(name),
}


@pytest.mark.parametrize("name", FILES)
def test_the_preset_is_named(tmp_path: Path, name: str) -> None:
    contents = {variant: make(name, tmp_path) for variant, make in VARIANTS.items()}
    present = {variant: content for variant, content in contents.items() if content is not None}
    folder = tmp_path / "variants"
    folder.mkdir()
    for variant, content in present.items():
        (folder / variant).write_bytes(content if isinstance(content, bytes) else content.encode())
    results = {variant: detect(folder / variant) for variant in present}
    assert {variant: result.preset for variant, result in results.items()} == dict.fromkeys(
        present, _preset(name)
    )
    assert all(result.trial.events + result.trial.links for result in results.values())
    assert len(present) >= 4


@pytest.mark.parametrize("name", [name for name in FILES if _has_free_case(name)])
def test_a_header_in_another_case_gives_the_same_events(tmp_path: Path, name: str) -> None:
    preset, path, other = sources.get_preset(_preset(name)), tmp_path / "a", tmp_path / "b"
    path.write_text(FILES[name], encoding="utf-8")
    other.write_text(_renamed(name, str.swapcase), encoding="utf-8")
    (chunk,), (other_chunk,) = (list(sources.read_events(file, preset)) for file in (path, other))
    assert other_chunk.events.equals(chunk.events)


@pytest.mark.parametrize("kept", [1, 0.5])
def test_a_snowplow_log_of_ecommerce_actions_is_recognised(tmp_path: Path, kept: float) -> None:
    """Actions keep their names, so that they are no part of the vocabulary of the preset."""
    prefix = "com_snowplowanalytics_snowplow_ecommerce"
    actions = ["add_to_cart", "remove_from_cart", "checkout_step", "my_own_action", "transaction"]
    lines = [
        {
            "event_id": f"e{row}",
            "event": "unstruct",
            "event_name": "snowplow_ecommerce_action",
            "collector_tstamp": f"2025-01-01T10:{row:02d}:00.000Z",
            "domain_userid": f"d{row % 3}",
            f"unstruct_event_{prefix}_snowplow_ecommerce_action_1": {"type": actions[row % 5]},
        }
        for row in range(20)
    ]
    lines[int(len(lines) * kept) :] = [
        {"event_id": "p", "event": "page_view", "collector_tstamp": "2025-01-01T11:00:00Z", "user_id": "u"}
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert detect(path).preset == "snowplow"
    assert len(TSV_COLUMNS) == 131


@pytest.mark.parametrize("name", ["online_retail-second.csv", "rees46", "retailrocket"])
@pytest.mark.parametrize("rename", [str, str.upper])
def test_json_lines_with_other_spellings_give_the_same_events(
    tmp_path: Path, name: str, rename: Callable[[str], str]
) -> None:
    preset, path, other = sources.get_preset(_preset(name)), tmp_path / "a", tmp_path / "b"
    header, *rows = _records(name)
    path.write_text(FILES[name], encoding="utf-8")
    names = [rename(column) for column in header]
    other.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    (chunk,), (other_chunk,) = (list(sources.read_events(file, preset)) for file in (path, other))
    assert other_chunk.events.drop(columns="event_id").equals(chunk.events.drop(columns="event_id"))
