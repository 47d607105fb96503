"""A campaign from its plan to its report, through the command line and a real database."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from retail_core.campaigns import records
from retail_core.privacy.erasure import count_stored, erase
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.times import iso
from tests.command_line import retail, store_variables
from tests.serving import AS_OF, Shop

pytestmark = pytest.mark.integration
SENT_AT = AS_OF - timedelta(days=2)


def run(settings: Settings, *arguments: str) -> dict[str, Any]:
    variables = store_variables(settings)
    done = retail("campaign", *arguments, "--json", home=settings.home_dir, **variables)
    result: dict[str, Any] = json.loads(done.stdout or done.stderr)
    return result


def users_of(path: Path) -> list[str]:
    with path.open(newline="") as stream:
        return [row["user_id"] for row in csv.DictReader(stream)]


def plan(shop: Shop, name: str, out: Path, *options: str) -> dict[str, Any]:
    return run(
        shop.settings,
        *("plan", name, "--as-of", iso(SENT_AT), "--budget", "300", "--out", str(out), *options),
    )


def test_a_campaign_is_planned_sent_and_reported(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "spring.csv"
    planned = plan(shop, "spring", out, "--control", "0.3", "--cost", "0.5")
    assert (planned["contacted"], planned["control"]) == (210, 90)
    assert planned["detectable_increase"] > 0
    assert planned["needed_users"] > 300
    assert len(users_of(out)) == 210
    assert "not recorded as sent" in run(shop.settings, "report", "spring")["error"]
    sent = run(shop.settings, "sent", "spring", "--at", iso(SENT_AT))
    assert sent == {"contacted": 210, "newly_recorded": 210, "control_contacted": 0, "not_planned": 0}
    assert run(shop.settings, "sent", "spring", "--at", iso(AS_OF))["newly_recorded"] == 0
    report = run(shop.settings, "report", "spring", "--days", "1")
    assert (report["contacted"], report["reached"], report["control"]) == (210, 210, 90)
    low, high = report["incremental_buyers"]["interval"]
    assert low < report["incremental_buyers"]["value"] < high
    assert sum(cell["users"] for cell in report["halves"]) == 300
    assert report["cost"] == 105.0
    assert report["verdict"]
    assert "ends at" in run(shop.settings, "report", "spring", "--days", "60")["error"]
    assert "has been sent" in plan(shop, "spring", out)["error"]
    states = {entry["name"]: entry["state"] for entry in run(shop.settings, "list")["campaigns"]}
    assert states["spring"] == "sent"


def test_an_effect_that_was_made_is_found(shop: Shop, tmp_path: Path) -> None:
    """Purchases are added for half of the contacted users who did not buy."""
    out = tmp_path / "made.csv"
    plan(shop, "made", out, "--control", "0.5")
    run(shop.settings, "sent", "made", "--at", iso(SENT_AT))
    with open_store(shop.settings) as store:
        pattern = store.events.find_one({"event_type": "purchase"})
        assert pattern is not None
        store.events.insert_many(
            pattern | {"_id": f"made-{user}", "user_id": user, "event_time": SENT_AT + timedelta(hours=3)}
            for user in users_of(out)[::2]
        )
        try:
            report = run(shop.settings, "report", "made", "--days", "1")
        finally:
            store.events.delete_many({"_id": {"$regex": "^made-"}})
    low, high = report["incremental_buyers"]["interval"]
    assert 0 < low < 75 < high
    assert report["verdict"].startswith("Contacting added")
    assert report["incremental_revenue"]["value"] > 0


def test_who_must_not_be_contacted_is_left_out_and_counted(shop: Shop, tmp_path: Path) -> None:
    out, block_list, consent = tmp_path / "list.csv", tmp_path / "block.csv", tmp_path / "consent.csv"
    plan(shop, "everybody", out, "--control", "0")
    first = users_of(out)
    block_list.write_text("user_id\n" + "\n".join(first[:10]))
    consent.write_text("user_id,consent\n" + "\n".join(f"{user},no" for user in first[10:15]))
    assert run(shop.settings, "consent", str(consent))["opted_out"] == 5
    planned = plan(shop, "some", out, "--control", "0", "--block-list", str(block_list))
    assert planned["excluded"] == {"opted out": 5, "on the block list": 10}
    assert not set(first[:15]) & set(users_of(out))
    assert len(users_of(out)) == 300
    run(shop.settings, "sent", "some", "--at", iso(SENT_AT))
    again = plan(shop, "again", out, "--days-since-contact", "36500", "--days-since-purchase", "36500")
    assert again["excluded"]["contacted recently"] >= 300
    assert again["excluded"]["bought recently"] > 0
    assert "Nobody" in plan(shop, "agreed", out, "--needs-consent")["error"]
    consent.write_text("user_id,consent\n" + "\n".join(f"{user},yes" for user in first[20:30]))
    run(shop.settings, "consent", str(consent))
    agreed = plan(shop, "agreed", out, "--needs-consent", "--control", "0")
    assert set(users_of(out)) == set(first[20:30])
    assert agreed["excluded"]["without consent"] > 0
    assert "no control group" in run(shop.settings, "report", "some", "--days", "1")["error"]


def test_an_erased_user_leaves_campaigns_contacts_and_consent(shop: Shop, tmp_path: Path) -> None:
    out, consent = tmp_path / "list.csv", tmp_path / "consent.csv"
    plan(shop, "erased", out, "--control", "0")
    run(shop.settings, "sent", "erased", "--at", iso(SENT_AT))
    user = users_of(out)[-1]
    consent.write_text(f"user_id,consent\n{user},yes\n")
    run(shop.settings, "consent", str(consent))
    with open_store(shop.settings) as store:
        before = count_stored(store, user)
        assert all(before[name] for name in ("campaign_members", "campaign_contacts", "contact_consent"))
        erase(store, user)
        assert not any(count_stored(store, user).values())


def test_plans_of_one_name_at_the_same_time_leave_one_of_them(store: Store) -> None:
    def plan_of(number: int) -> None:
        members = [
            {"user_id": f"u{user}", "group": "contact", "probability": 0.1, "rank": user}
            for user in range(1, 501 + number)
        ]
        records.replace_plan(store, {"_id": "same", "contacted": len(members)}, members)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(plan_of, range(4)))
    campaign = records.find_campaign(store, "same")
    assert campaign["members"] == campaign["contacted"] == len(list(records.read_members(store, "same")))
