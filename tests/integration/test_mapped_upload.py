"""The mapping of an ingested file, sent with an upload of that file, gives the same probabilities."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from retail_core import sources
from retail_core.client import Client
from retail_core.errors import InputError
from retail_core.ingest import ingest, undo
from retail_core.scoring.scores import score
from retail_core.scoring.shop_context import store_shop_context
from retail_core.store.mongo.connection import open_store
from retail_core.workspace import Workspace
from tests.serving import AS_OF, Shop, environment, running_service, scored_file

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]

MAPPING = """
name: my_shop
columns:
  user_id: kunde
  event_time: zeit
  event_type: aktion
  item_id: artikel
  category: warengruppe
  brand: marke
  price: preis
  quantity: menge
  currency: waehrung
  session_id: besuch
  platform: geraet
  order_id: bestellung
event_types: {Kauf: purchase, Warenkorb: add_to_cart, Test: null}
time: ["%d.%m.%Y %H:%M:%S.%f"]
timezone: Europe/Berlin
delimiter: ";"
decimal: ","
encoding: latin-1
"""
COLUMNS = {
    "user_id": "kunde", "event_time": "zeit", "event_type": "aktion", "item_id": "artikel",
    "category": "warengruppe", "brand": "marke", "price": "preis", "quantity": "menge",
    "currency": "waehrung", "session_id": "besuch", "platform": "geraet", "order_id": "bestellung",
}  # fmt: skip


@dataclass(frozen=True)
class MappedShop:
    """The service over a shop whose log is of another system, and the probabilities of `retail score`."""

    api: httpx.Client
    log: Path
    mapping: Path
    probabilities: pd.Series


def probabilities(csv: bytes | Path) -> pd.Series:
    source = io.BytesIO(csv) if isinstance(csv, bytes) else csv
    return pd.read_csv(source, dtype={"user_id": "str"}).set_index("user_id")["probability"].sort_index()


def in_other_words(log: Path) -> bytes:
    """The canonical log as another system writes it, with a row to leave out and an unreadable price."""
    events = pd.read_csv(log, dtype="str")
    local = pd.to_datetime(events["event_time"], format="ISO8601").dt.tz_convert("Europe/Berlin")
    events["event_time"] = local.dt.strftime("%d.%m.%Y %H:%M:%S.%f")
    events["event_type"] = events["event_type"].replace({"purchase": "Kauf", "add_to_cart": "Warenkorb"})
    events["price"] = events["price"].str.replace(".", ",")
    raw = events[list(COLUMNS)].rename(columns=COLUMNS)
    tail = raw.tail(1).assign(aktion="Test"), raw.tail(1).assign(preis="gratis", aktion="search")
    return pd.concat([raw, *tail]).to_csv(index=False, sep=";").encode("latin-1")


@pytest.fixture(scope="module")
def mapped(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MappedShop]:
    folder = tmp_path_factory.mktemp("mapped")
    log, mapping, out = folder / "shop.csv", folder / "shop.yaml", folder / "scores.csv"
    log.write_bytes(in_other_words(shop.log))
    mapping.write_text(MAPPING)
    with open_store(shop.settings) as store:
        for file in list(store.ledger.find({"kind": "file"})):
            undo(store, file["_id"], at=AS_OF)
        report = ingest(store, [log], sources.from_mapping(mapping), at=AS_OF)
        assert report.quarantined == 0
        workspace = Workspace.synchronized(store)
        store_shop_context(workspace)
        score(workspace, as_of=AS_OF, out=out)
    with running_service(shop.settings, folder / "api.log") as api:
        yield MappedShop(api, log, mapping, probabilities(out))


def test_an_upload_with_the_mapping_gets_the_probabilities_of_the_ingested_file(mapped: MappedShop) -> None:
    with Client(str(mapped.api.base_url)) as client:
        scored = client.score_file(mapped.log, mapping=mapped.mapping, as_of=AS_OF)
    pd.testing.assert_series_equal(probabilities(scored.csv), mapped.probabilities, rtol=0, atol=1e-9)
    report = scored.report
    assert report["rows_read"] == report["used"] + report["duplicates"] + report["refused"]
    assert (report["filtered"], report["refused"]) == (1, 0)
    (warning,) = report["value_warnings"]
    assert (warning["field"], warning["rule"], warning["count"]) == ("preis", "price", 1)


def test_the_page_sends_the_mapping(shop: Shop, mapped: MappedShop, monkeypatch: pytest.MonkeyPatch) -> None:
    served = shop.settings.model_copy(update={"api_port": mapped.api.base_url.port})
    for name, value in environment(served).items():
        monkeypatch.setenv(name, value)
    at = AppTest.from_file(str(ROOT / "app" / "views" / "score.py"), default_timeout=120).run()
    at.file_uploader[0].set_value(("shop.csv", mapped.log.read_bytes(), "text/csv")).run()
    at.selectbox[0].set_value("mapping").run()
    at.text_area[0].set_value(MAPPING).run()
    at.text_input[0].set_value(AS_OF.isoformat()).run()
    at.button[0].click().run()
    assert not at.exception
    scores = probabilities(at.session_state["result"].csv)
    pd.testing.assert_series_equal(scores, mapped.probabilities, rtol=0, atol=1e-9)
    assert any("1 further rows were left out" in caption.value for caption in at.caption)


def test_a_mapping_in_json_is_a_mapping(mapped: MappedShop) -> None:
    mapping = json.dumps({"extends": "canonical", "name": "json_shop"})
    content = b"user_id,event_time,event_type\nu1,2025-01-28T10:00:00Z,view_item\n"
    form = {"mapping": mapping, "as_of": AS_OF.isoformat()}
    answer = scored_file(mapped.api, "a.csv", content, **form)
    assert (answer.status_code, len(answer.content.splitlines())) == (200, 2), answer.text


def test_linked_ids_are_counted_in_a_warning(mapped: MappedShop) -> None:
    content = b"u,a,t\nu1,a1,2025-01-28T10:00:00Z\n,a1,2025-01-28T09:00:00Z\nu1,a1,2025-01-28T11:00:00Z\n"
    mapping = (
        "name: linked\ncolumns: {user_id: [u, a], event_time: t}\nconstants: {event_type: view_item}\n"
        "anonymous_id: a\n"
    )
    form = {"mapping": mapping, "as_of": AS_OF.isoformat()}
    answer = scored_file(mapped.api, "a.csv", content, **form)
    assert answer.status_code == 200, answer.text
    assert "links 1 pairs of ids" in json.loads(answer.headers["X-Score-Report"])["warnings"][0]


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        ("extends: rees46\ncolumns: {price: 1.5}\n", "mapping.columns.price"),
        ("extends: rees46\njoined: a\n", "mapping.joined"),
        ("a: &x [1]\nb: *x\n", "mapping"),
        ("http://127.0.0.1:1/shop.yaml", "mapping"),
        ("/etc/passwd", "mapping"),
        ("123", "mapping"),
        ("", "mapping"),
        ("[" * 60_000, "mapping"),
    ],
)
def test_a_wrong_mapping_is_refused_at_once_with_its_key(
    mapped: MappedShop, mapping: str, field: str
) -> None:
    files = {"file": ("a.csv", b"0" * 3_000_000)}  # more than one chunk of the body
    answer = mapped.api.post("/score_batch", files=files, data={"mapping": mapping})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/docs#invalid-request"), problem
    assert (problem["errors"][0]["field"], bool(problem["remedy"])) == (field, True)


def test_a_column_that_the_file_lacks_is_named(mapped: MappedShop, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer;zeit\n")
    with Client(str(mapped.api.base_url)) as client, pytest.raises(InputError, match="no column 'kunde'"):
        client.score_file(tmp_path / "a.csv", mapping=mapped.mapping)
    with Client(str(mapped.api.base_url)) as client, pytest.raises(InputError, match="cannot be read"):
        client.score_file(mapped.log, mapping=tmp_path / "none.yaml")
