"""The app in a real browser: upload a log, take the scored CSV home, look at the monitor."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from retail_core.store.mongo.connection import open_store
from retail_core.store.mongo.predictions import read_predictions
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from tests.serving import AS_OF, Shop, environment, running_service

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.long]

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def app_url(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Service and app, as `retail up` starts them."""
    logs = tmp_path_factory.mktemp("logs")
    with running_service(shop.settings, logs / "api.log") as api:
        port = free_port()
        settings = shop.settings.model_copy(update={"api_port": api.base_url.port, "app_port": port})
        process = start("app.serve", [], environment(settings), logs / "app.log")
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: is_reachable(f"{url}/_stcore/health"), process, logs / "app.log")
            yield url
        finally:
            stop(process)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "no chromium on the path: `make setup-dev` installs it"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()


def picture(page: Page, name: str) -> None:
    """The whole page as a picture to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_load_state("networkidle")
    for _ in range(2):  # what comes into view is drawn and makes the page longer
        height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
        page.set_viewport_size({"width": 1360, "height": min(int(height) + 80, 4000)})
        page.wait_for_timeout(1000)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_a_log_goes_in_and_a_scored_list_comes_out(
    page: Page, app_url: str, shop: Shop, tmp_path: Path
) -> None:
    page.goto(app_url)
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(shop.log)
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("heading", name="Who will buy")).to_be_visible(timeout=WAIT_MS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the scored CSV").click()
    target = tmp_path / "scored.csv"
    download.value.save_as(target)
    expect(
        page.locator("[data-testid=stVegaLiteChart] svg, [data-testid=stVegaLiteChart] canvas")
    ).to_have_count(2)
    picture(page, "score")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["user_id", "probability", "rank", "will_purchase", "contact"]
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {row["user_id"] for row in rows} >= set(shop.scores["user_id"])


def test_an_audience_is_chosen_stored_and_taken_home(
    page: Page, app_url: str, shop: Shop, tmp_path: Path
) -> None:
    page.goto(f"{app_url}/audience")
    page.get_by_role("textbox", name="As of").fill(AS_OF.isoformat())
    page.get_by_role("button", name="Score all users").click()
    expect(page.get_by_role("heading", name="Whom to contact")).to_be_visible(timeout=2 * WAIT_MS)
    picture(page, "audience_sized")
    budget = page.get_by_label("Users, control group included")
    budget.fill("100")
    budget.press("Enter")
    page.get_by_role("button", name="Make this list of 90 users").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download these 90 users with reasons").click(timeout=2 * WAIT_MS)
    target = tmp_path / "audience.csv"
    download.value.save_as(target)
    picture(page, "audience_made")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with open_store(shop.settings) as store:
        stored = store.audiences.find_one({"kind": "audience"})
        scored = read_predictions(store, as_of=AS_OF)
    assert len(rows) == 90
    assert {row["user_id"] for row in rows} < set(scored.loc[scored["rank"] <= 100, "user_id"])
    assert all(row["reasons"].startswith(("raises: ", "lowers: ")) for row in rows[:10])
    assert stored is not None
    assert (stored["contacted"], stored["control"], stored["state"]) == (90, 10, "whole")


def test_a_user_is_looked_up_with_reasons(page: Page, app_url: str, shop: Shop) -> None:
    page.goto(f"{app_url}/user")
    page.get_by_role("textbox", name="User id").fill(shop.scores["user_id"].iloc[0])
    page.get_by_role("textbox", name="As of").fill(AS_OF.isoformat())
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("What moves this probability most")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_test_id("stMarkdown").filter(has_text="raises").first).to_be_visible()
    picture(page, "user")


def test_the_monitor_shows_model_data_and_history(page: Page, app_url: str) -> None:
    page.goto(f"{app_url}/monitor")
    expect(page.get_by_role("heading", name="In production: version 1")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_test_id("stSidebarNavLink")).to_have_text(
        [re.compile(name) for name in ("Score a file", "Choose an audience", "Look up a user", "Monitor")]
    )
    for tab in ("Retraining", "Versions", "Alerts", "Live quality", "Data"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        picture(page, f"monitor_{tab.split()[0].lower()}")
    expect(page.get_by_role("paragraph").filter(has_text="Rows read")).to_be_visible()
    assert page.get_by_text("Traceback").count() == 0
