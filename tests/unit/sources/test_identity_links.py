"""Identity links of raw rows: rows with two ids, identity events, files of links."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import Chunk, Source
from retail_core.sources.event_reader import parse_rows
from retail_core.sources.identity_links import distinct_links
from tests.unit.sources.event_rows import event_rows, link_rows, note_rows, read_rows

MAPPING = """
name: shop
columns: {user_id: uid, event_time: t, event_type: e}
anonymous_id: anon
previous_id: "old?"
identity_events: [identify, alias]
"""
DAY = "2025-01-0"


def _source(tmp_path: Path, text: str = MAPPING) -> Source:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return sources.from_mapping(path)


def _rows(tmp_path: Path, lines: str, text: str = MAPPING) -> list[str]:
    path = tmp_path / "log.csv"
    path.write_text(lines)
    return read_rows(path, _source(tmp_path, text))


def test_a_row_with_both_ids_gives_a_link_at_its_time(tmp_path: Path) -> None:
    lines = (
        "uid,anon,t,e\nk1,a1,2025-01-02,purchase\nk1,a1,2025-01-01,view\n,a1,2025-01-03,view\n"
        "k1,k1,2025-01-04,view\n"
    )
    assert _rows(tmp_path, lines) == [
        "k1 2025-01-02T00:00:00Z purchase",
        "k1 2025-01-01T00:00:00Z view",
        "a1 2025-01-03T00:00:00Z view",
        "k1 2025-01-04T00:00:00Z view",
        "link: a1 k1 2025-01-01T00:00:00Z",
    ]


def test_identity_events_give_links_and_are_no_events(tmp_path: Path) -> None:
    lines = (
        "uid,anon,old,t,e\nk1,a1,,2025-01-01,identify\nk2,,k1,2025-01-02,alias\nk1,,,2025-01-03,identify\n"
        ",a3,a2,2025-01-03,alias\nk1,a1,,2025-01-03,view\n"
    )
    assert _rows(tmp_path, lines) == [
        "k1 2025-01-03T00:00:00Z view",
        "link: a1 k1 2025-01-01T00:00:00Z",
        "link: a2 a3 2025-01-03T00:00:00Z",
        "link: k1 k2 2025-01-02T00:00:00Z",
        "filtered: e identity identify 2",
        "filtered: e identity alias 2",
    ]


def test_an_identity_event_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    long_id = "a" * 513
    lines = (
        f"uid,anon,t,e\nk1,a1,never,identify\nk1,{long_id},2025-01-01,identify\nk1,a1,,identify\n"
        "k1,a1,1969-01-01,identify\n"
    )
    assert _rows(tmp_path, lines) == [
        "refused: line 2 t time",
        "refused: line 3 anon length",
        "refused: line 4 t missing",
        "refused: line 5 t time_range",
    ]


def test_a_refused_row_gives_no_link(tmp_path: Path) -> None:
    assert _rows(tmp_path, "uid,anon,t,e\nk1,a1,never,view\n,,2025-01-01,view\n") == [
        "refused: line 2 t time",
        "refused: line 3 uid missing",
    ]


def test_an_unusable_anonymous_id_costs_the_link_and_not_the_event(tmp_path: Path) -> None:
    (chunk,) = _json(_source(tmp_path), {"uid": "k1", "anon": ["a"], "t": "2025-01-01", "e": "view"})
    assert event_rows([chunk]) == ["k1 2025-01-01T00:00:00Z view"]
    assert (link_rows([chunk]), note_rows(chunk.notes)) == ([], ["warning: anon nested 1"])


def _json(source: Source, *rows: dict[str, object]) -> list[Chunk]:
    return [parse_rows(rows, source)]


def test_the_anonymous_id_replaces_a_missing_user_column(tmp_path: Path) -> None:
    text = "name: shop\ncolumns: {event_time: t, event_type: e}\nanonymous_id: anon\n"
    assert _rows(tmp_path, "anon,t,e\na1,2025-01-01,view\n", text) == ["a1 2025-01-01T00:00:00Z view"]


def test_a_file_of_links_has_no_events_and_refuses_incomplete_rows(tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_text(
        "from_id,to_id,linked_at\na1,k1,2025-01-01T10:00:00Z\na1,k1,2025-01-01T09:00:00Z\n,k1,2025-01-01\na2,,2025-01-01\n"
    )
    assert read_rows(path, sources.get_preset("identities")) == [
        "refused: line 4 from_id missing",
        "refused: line 5 to_id missing",
        "link: a1 k1 2025-01-01T09:00:00Z",
        "filtered: event_type identity link 2",
    ]
    with pytest.raises(InputError, match="no column 'user_id'") as caught:
        read_rows(path, sources.get_preset("canonical"))
    assert caught.value.remedy == "use --source identities."


def test_posted_rows_have_an_anonymous_id_beside_the_user_id() -> None:
    rows = [
        {"anonymous_id": "a1", "event_time": "2025-01-01", "event_type": "view_item"},
        {"user_id": "k1", "anonymous_id": "a1", "event_time": "2025-01-02", "event_type": "purchase"},
    ]
    chunk = parse_rows(rows, sources.get_preset("canonical"))
    assert chunk.events["user_id"].tolist() == ["a1", "k1"]
    assert [link[:2] for link in distinct_links(chunk.links)] == [("a1", "k1")]


@pytest.mark.parametrize("option", ["anonymous_id: a", "previous_id: b", "identity_events: [identify]"])
def test_the_options_of_links_change_the_options_hash(tmp_path: Path, option: str) -> None:
    source = _source(tmp_path, f"extends: rees46\n{option}\n")
    assert source.options_hash() != sources.get_preset("rees46").options_hash()
    assert source.mapped_columns() != sources.get_preset("rees46").mapped_columns() or "events" in option
