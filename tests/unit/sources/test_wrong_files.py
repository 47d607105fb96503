"""The remedy for a file that its source does not fit names the preset, or what to correct in the mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.presets.snowplow import TSV_COLUMNS
from retail_core.sources.source import Source

EXPORTS = Path(__file__).parent / "vendor_exports"
CANONICAL = sources.get_preset("canonical")
CANONICAL_LOG = "user_id,event_time,event_type,item_id\nu1,2025-01-01,view_item,a\n"
SNOWPLOW_COLUMNS = ("event_id", "event", "collector_tstamp", "user_id", "contexts", "unstruct_event")


def _remedy(tmp_path: Path, text: str, source: Source = CANONICAL) -> str:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        list(sources.read_events(path, source))
    return error.value.remedy


def _mapping(tmp_path: Path, user_column: str) -> Source:
    path = tmp_path / "map.yaml"
    columns = f"user_id: {user_column}, event_time: event_time, event_type: event_type"
    path.write_text(f"name: shop\ncolumns: {{{columns}}}\n")
    return sources.from_mapping(path)


@pytest.mark.parametrize("user_column", ["user_idd", "'user_idd?'", "[user_idd, userid]"])
@pytest.mark.parametrize(
    "text", [CANONICAL_LOG, '{"user_id": "u1", "event_time": "2025-01-01", "event_type": "search"}\n']
)
def test_a_misspelt_column_of_a_mapping_is_to_be_corrected_there(
    tmp_path: Path, text: str, user_column: str
) -> None:
    remedy = _remedy(tmp_path, text, _mapping(tmp_path, user_column))
    assert remedy == "correct the name of the column in the mapping: the file has 'user_id'."


def test_a_file_of_a_preset_read_with_a_mapping_may_be_read_with_the_preset(tmp_path: Path) -> None:
    remedy = _remedy(tmp_path, (EXPORTS / "shopify.csv").read_text(), _mapping(tmp_path, "kunde"))
    assert remedy == "correct the name of the column in the mapping; or use --source shopify instead."


def _snowplow_rows(names: tuple[str, ...], *, header: bool = True) -> str:
    rows = [line.split("\t") for line in (EXPORTS / "snowplow.tsv").read_text().splitlines()]
    columns = [TSV_COLUMNS.index(name) for name in names]
    lines = ["\t".join(row[column] for column in columns) for row in rows if len(row) == len(TSV_COLUMNS)]
    return "\n".join(["\t".join(names)] * header + lines) + "\n"


@pytest.mark.parametrize("name", ["canonical", "ga4", "online_retail"])
@pytest.mark.parametrize(
    "text",
    [
        _snowplow_rows(TSV_COLUMNS),
        _snowplow_rows(TSV_COLUMNS, header=False),
        _snowplow_rows(SNOWPLOW_COLUMNS),
        _snowplow_rows(SNOWPLOW_COLUMNS).replace("event_id\t", '"event_id"\t', 1),
    ],
    ids=["header", "no header", "some columns", "quoted name"],
)
def test_a_file_with_another_delimiter_is_recognised_by_its_preset(
    tmp_path: Path, text: str, name: str
) -> None:
    assert _remedy(tmp_path, text, sources.get_preset(name)) == "use --source snowplow."


@pytest.mark.parametrize("name", ["canonical", "taobao", "snowplow"])
def test_a_preset_with_another_delimiter_is_the_base_of_a_mapping(tmp_path: Path, name: str) -> None:
    text = "timestamp;visitorid;event;itemid;transactionid\n1;2;view;3;\n"
    remedy = _remedy(tmp_path, text, sources.get_preset(name))
    assert "columns of retailrocket, separated by ';': set delimiter in a mapping" in remedy
    assert "`extends: retailrocket`" in remedy


def test_columns_that_snowplow_reads_are_not_reported_as_unread() -> None:
    unread = {
        name
        for chunk in sources.read_events(EXPORTS / "snowplow-sdk.jsonl", sources.get_preset("snowplow"))
        for name in chunk.unread_columns
        if name.startswith(("contexts", "unstruct_event"))
    }
    entities = "contexts_com_snowplowanalytics_snowplow_ecommerce"
    assert unread == {f"{entities}_user_1", f"{entities}_cart_1"}
