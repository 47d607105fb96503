"""`retail sources detect` and `retail ingest --dry-run` as a person or a script sees them."""

from __future__ import annotations

import json
from pathlib import Path

from retail_core import sources
from tests.command_line import retail

LOG = "kunde;zeit;aktion;artikel;preis\n" + "".join(
    f"K-{row % 5};2025-01-{13 + row % 9} 18:05;{'Kauf' if row % 3 else 'Warenkorb'};47{row % 8};19,90\n"
    for row in range(30)
)


def test_detect_writes_a_mapping_that_ingest_accepts(tmp_path: Path) -> None:
    log, mapping = tmp_path / "shop.csv", tmp_path / "shop.yaml"
    log.write_text(LOG)
    done = retail("sources", "detect", str(log), "--write", str(mapping), home=tmp_path / "home")
    assert done.returncode == 0
    assert sources.from_mapping(mapping).name == "shop"
    assert "Proposed mapping" in done.stdout
    assert "Of the first rows 30 become events, 0 would be refused." in done.stdout
    tried = retail(
        "ingest", str(log), "--mapping", str(mapping), "--dry-run", "--json", home=tmp_path / "home"
    )
    report = json.loads(tried.stdout)
    assert (report["rows_read"], report["events"], report["quarantined"]) == (30, 30, 0)
    assert dict(report["summary"]["event_types"]) == {"purchase": 20, "add_to_cart": 10}
    assert not (tmp_path / "home").exists()


def test_a_mapping_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    log, mapping = tmp_path / "shop.csv", tmp_path / "shop.yaml"
    log.write_text(LOG)
    mapping.write_text("mine")
    refused = retail("sources", "detect", str(log), "--write", str(mapping), home=tmp_path)
    assert (refused.returncode, mapping.read_text()) == (1, "mine")
    assert "--force" in refused.stderr
    forced = retail("sources", "detect", str(log), "--write", str(mapping), "--force", home=tmp_path)
    assert forced.returncode == 0
    assert "kunde" in mapping.read_text()


def test_the_result_is_one_json_object(tmp_path: Path) -> None:
    log = tmp_path / "shop.csv"
    log.write_text(LOG)
    done = retail("sources", "detect", str(log), "--json", home=tmp_path)
    result = json.loads(done.stdout)
    assert result["preset"] is None
    assert [field["field"] for field in result["fields"]][:3] == ["user_id", "event_time", "event_type"]
    assert {question["key"] for question in result["questions"]} == {"timezone", "constants.currency"}
    assert len(result["preview"]) == 10


def test_nothing_usable_ends_with_what_is_missing(tmp_path: Path) -> None:
    log = tmp_path / "shop.csv"
    log.write_text("user_id,zone,time\n" + "".join(f"u{row},a,2025-01-13\n" for row in range(9)))
    done = retail("sources", "detect", str(log), "--json", home=tmp_path)
    assert done.returncode == 1
    assert "no column that looks like event_type" in json.loads(done.stdout)["error"]


def test_refused_rows_of_a_dry_run_have_rule_and_remedy(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,event_time,event_type\nu1,2025-01-01,view_item\n,2025-01-01,view_item\n")
    report = json.loads(retail("ingest", str(log), "--dry-run", "--json", home=tmp_path).stdout)
    assert report["refusals"] == [
        {
            "rule": "missing",
            "field": "user_id",
            "count": 1,
            "remedy": "fill in the value; the field is required",
        }
    ]


def test_a_dry_run_counts_the_rows_of_a_file_of_users(tmp_path: Path) -> None:
    log, mapping = tmp_path / "users.csv", tmp_path / "users.yaml"
    log.write_text("id,since,segment\nu1,2025-01-10,new\nu2,2025-01-11,loyal\n,2025-01-11,new\n")
    mapping.write_text(
        "name: shop_users\ncolumns: {user_id: id}\nvalid_from: since\nattributes: {segment: text}\n"
    )
    done = retail("ingest", str(log), "--mapping", str(mapping), "--dry-run", "--json", home=tmp_path)
    report = json.loads(done.stdout)
    assert {name: report[name] for name in ("rows_read", "events", "users", "quarantined")} == {
        "rows_read": 3,
        "events": 0,
        "users": 2,
        "quarantined": 1,
    }


def test_a_mapping_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "shop.csv"
    log.write_text(LOG)
    for target in (tmp_path / "missing" / "shop.yaml", tmp_path):
        refused = retail("sources", "detect", str(log), "--write", str(target), "--force", home=tmp_path)
        assert refused.returncode == 1
        assert str(target) in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_a_dry_run_undoes_nothing_first(tmp_path: Path) -> None:
    done = retail("ingest", "log.csv", "--dry-run", "--again", home=tmp_path)
    assert done.returncode == 2
    assert "--again" in done.stderr
