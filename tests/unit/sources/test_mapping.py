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
        ("a: 2025-13-45\n", "not readable YAML"),
        ("a: 1\na: 2\n", "key a is given twice"),
        ("? [a, b]\n: c\n", "not readable YAML"),
        ("a: !!python/object:os.system {}\n", "not readable YAML"),
        ("[" * 2000, "not readable YAML"),
        ("a: &x [*x]\n", "key a"),
        ("1: 2\n", "key 1"),
        ("extends: rees46\ncolumns: {price: 1.5}\n", "1.5 is no text: write it in quotes"),
        ("extends: rees46\ncolumns: {price: [a, [b]]}\n", "key columns.price"),
        ("extends: rees46\ncolumns: [a]\n", "key columns"),
        ("extends: rees46\ncolumns: {price: }\n", "key columns.price"),
        ("extends: rees46\nevent_types: {yes: purchase}\n", "True is no text: write it in quotes"),
        ("extends: rees46\nevent_types: {buy: 2025-01-01}\n", "is no text: write it in quotes"),
        ("extends: rees46\nattributes: {age: integer}\n", "key attributes.age"),
        ("extends: rees46\ntime: 5\n", "key time"),
        ("extends: rees46\ntime: ['%d/%m/%Y', '%m/%d/%Y']\n", "the order of day and month is ambiguous"),
        ("extends: rees46\nconstants: {price: '12,50'}\n", "price: '12,50' is no number"),
        ("extends: rees46\nconstants: {quantity: -1}\n", "quantity: '-1' is no number"),
        ("extends: rees46\ndecimal: ';'\n", "key decimal"),
        ("extends: rees46\ncurrency_signs: {$: DOLLARS_US}\n", "key currency_signs.$"),
        ("extends: rees46\nskip_lines: -1\n", "key skip_lines"),
        ("extends: rees46\nfill_down: {by: a}\n", "key fill_down.columns"),
        ("extends: rees46\nrefunds: {negative: maybe}\n", "key refunds.negative"),
        ("extends: rees46\nwhere: {a: {b: c}}\n", "key where.a"),
        ("extends: rees46\nnulls: NA\n", "key nulls"),
        ("extends: rees46\nvalid_from: since\n", "valid_from: only a mapping of users has it"),
        ("name: u\ncolumns: {item_id: i}\nattributes: {a: text}\n", "columns.item_id: a mapping without"),
        ("name: u\ncolumns: {}\nattributes: {a: text}\n", "which column is user_id"),
        (
            "name: u\ncolumns: {user_id: i}\nattributes: {a: text}\npolicy: daily\n",
            "policy: a mapping without",
        ),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        sources.from_mapping(_mapping(tmp_path, text))
    assert message in caught.value.message
    assert "shop.yaml" in caught.value.message
    assert "\n" not in str(caught.value)


HEAD = "name: x\ncolumns: {user_id: a, event_time: b, event_type: c}\n"


@pytest.mark.parametrize(
    ("text", "message", "key"),
    [
        ("a: &x [1]\nb: *x\n", "an alias", ""),
        ("#" * (sources.mapping.MAX_TEXT_BYTES + 1), "larger than 64 KiB", ""),
        ("[" * 60_000, "not readable YAML", ""),
        ("{" + ",".join(f"{i:x}" for i in range(13_000)) + "}", "Extra inputs", "0"),
        ("k" * 900 + ": 1\n", "Extra inputs", "k" * 100),
        (HEAD + f"where: {{a: '{'*' * 1_001}'}}\n", "at most 1000 characters", "where.a"),
        (HEAD + f"timezone: {'a/' * 1_000}\n", "at most 100 characters", "timezone"),
        (HEAD + "timezone: ../../../etc/passwd\n", "no time zone", "timezone"),
        (HEAD + f"time: [{', '.join(map(str, range(21)))}]\n", "at most 20", "time"),
        ("name: u\ncolumns: {user_id: i}\nattributes: {a: text}\n", "a log of events is needed", "columns"),
        (HEAD + "join: {file: /etc/passwd, on: {a: b}, columns: [c]}\n", "no file is opened here", "join"),
        (HEAD + "time: ['%d/%d/%Y']\n", "is not a time format", "time"),
    ],
)
def test_a_text_of_anyone_is_bounded(text: str, message: str, key: str) -> None:
    with pytest.raises(sources.MappingError) as caught:
        sources.mapping_from_text(text)
    assert message in caught.value.message
    assert (caught.value.key, len(caught.value.message) < 600) == (key, True)


def test_a_text_gives_the_source_of_its_file(tmp_path: Path) -> None:
    text = _example("yaml")
    assert sources.mapping_from_text(text) == sources.from_mapping(_mapping(tmp_path, text))


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


@pytest.mark.parametrize(
    ("name", "options_hash"),
    [
        ("canonical", "133ee8113656fcd3"), ("taobao", "5d17afa3e78f77f0"), ("rees46", "084ff82e5aadf299"),
        ("retailrocket", "dcd3f81e11c93709"), ("online_retail", "8374e1a0a2684183"),
        ("otto", "b8f737faa291afd6"),
        ("app_profile", "243c80327fd1b84b"),
    ],
)  # fmt: skip
def test_the_options_hash_of_a_preset_never_changes(name: str, options_hash: str) -> None:
    """Files that an earlier release ingested are recognised by it."""
    assert sources.get_preset(name).options_hash() == options_hash


@pytest.mark.parametrize(
    "option",
    [
        "nulls: [none]", "decimal: ','", "currency_signs: {$: USD}", "price_per: line", "skip_lines: 1",
        "comment: '#'", "where: {a: b}", "drop: {a: b}", "fill_down: {by: a, columns: [b]}",
        "refunds: {negative: true}", "refunds: {where: {a: b}}",
    ],
)  # fmt: skip
def test_each_option_changes_the_options_hash(tmp_path: Path, option: str) -> None:
    source = sources.from_mapping(_mapping(tmp_path, f"extends: rees46\n{option}\n"))
    assert source.options_hash() != sources.get_preset("rees46").options_hash()


def test_columns_marked_as_optional_may_be_absent(tmp_path: Path) -> None:
    text = (
        'extends: rees46\ncolumns: {price: ["cost?", "really??"]}\nproperties: ["note?"]\n'
        'attributes: {"age?": number}\n'
    )
    source = sources.from_mapping(_mapping(tmp_path, text))
    assert source.columns["price"] == ("cost", "really?")
    assert (source.properties, dict(source.attributes)) == (("note",), {"age": "number"})
    assert source.required_columns == ("really?",)


def test_attributes_beyond_every_number_stay_text(tmp_path: Path) -> None:
    text = (
        "name: shop\ncolumns: {user_id: u, event_time: t}\nconstants: {event_type: search}\n"
        "attributes: {age: number}\n"
    )
    raw = tmp_path / "log.csv"
    raw.write_text("u,t,age\nu1,2025-01-01,1e999\nu2,2025-01-01,NA\nu3,2025-01-01,34.0\n")
    (chunk,) = sources.read_events(raw, sources.from_mapping(_mapping(tmp_path, text)))
    assert chunk.users["attributes"].tolist() == ['{"age":"1e999"}', '{"age":34}']
