"""Sources described by a YAML mapping; an error in it names file and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "sources.md"


def _mapping(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return path


def _example(language: str) -> str:
    """The first fenced block of that language in the documentation."""
    return DOCS.read_text().split(f"```{language}\n", 1)[1].split("```", 1)[0]


def test_the_documented_example_gives_the_documented_events(tmp_path: Path) -> None:
    raw = tmp_path / "shop.csv"
    raw.write_bytes(_example("csv").encode("latin-1"))
    source = sources.from_mapping(_mapping(tmp_path, _example("yaml")))
    (chunk,) = sources.read_events(raw, source)
    events = chunk.events.assign(event_time=chunk.events["event_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    shown = ["user_id", "event_time", "event_type", "item_id", "price_minor", "currency", "properties"]
    assert events[shown].astype(object).where(events[shown].notna(), None).values.tolist() == [
        ["K-1", "2025-01-31T17:05:00Z", "add_to_cart", "4711", 1990, "EUR", '{"shop":"Köln"}'],
        ["K-1", "2025-01-31T17:06:00Z", "purchase", "4711", 1990, "EUR", '{"shop":"Köln"}'],
        ["K-2", "2025-01-31T17:07:00Z", "purchase", "4712", None, "EUR", '{"shop":"Bonn"}'],
    ]
    assert not chunk.refused
    (warning,) = chunk.notes.warnings
    assert (warning.examples[0].line, warning.field, warning.rule) == (4, "preis", "price")
    assert json.loads(chunk.users["attributes"][0]) == {"alter": 34, "ort": "Köln"}
    assert source.policy == "daily"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ncolums: {}\n", "key colums"),
        ("name: x\ncolumns: {user: a}\n", "key columns.user"),
        ("name: x\ncolumns: {user_id: a, event_time: b}\n", "which column is event_type"),
        ("columns: {user_id: a, event_time: b, event_type: c}\n", "name"),
        ("name: taobao\ncolumns: {user_id: a, event_time: b, event_type: c}\n", "name"),
        ("extends: nothing\n", "key extends: there is no preset 'nothing'"),
        ("extends: rees46\ntimezone: Mars/Base\n", "key timezone: There is no time zone"),
        ("extends: rees46\nencoding: klingon\n", "key encoding: there is no text encoding"),
        ("extends: rees46\nencoding: base64\n", "key encoding: there is no text encoding"),
        ("extends: rees46\ndelimiter: ';;'\n", "key delimiter"),
        ("extends: rees46\ndelimiter: '\"'\n", "key delimiter"),
        ('extends: rees46\ndelimiter: "\\n"\n', "key delimiter"),
        ("extends: rees46\ntime: ['%d.%m.%Y', '%Q']\n", "key time: '%Q' is not a time format"),
        ("extends: rees46\npolicy: weekly\n", "key policy"),
        ("- a\n", "has no keys"),
        ("a: [\n", "not readable YAML"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        sources.from_mapping(_mapping(tmp_path, text))
    assert message in caught.value.message
    assert "shop.yaml" in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_missing_mapping_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no mapping file"):
        sources.from_mapping(tmp_path / "no.yaml")


def test_options_that_change_the_events_change_the_options_hash(tmp_path: Path) -> None:
    preset = sources.get_preset("rees46")
    same = sources.from_mapping(_mapping(tmp_path, "extends: rees46\n"))
    latin_1 = sources.from_mapping(_mapping(tmp_path, "extends: rees46\nencoding: latin-1\n"))
    assert preset.options_hash() == same.options_hash() != latin_1.options_hash()
    assert preset.with_timezone("Europe/Paris").options_hash() != preset.options_hash()
    assert same.name == "rees46"
