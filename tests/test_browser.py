"""What people see: Dagster's UI and dbt's site, in a real browser. `make pictures` keeps what the README shows."""

import os
import shutil
import socket
from pathlib import Path

import pytest
from conftest import ROOT, copied
from drill import Dagster, free_port
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="it needs a browser: install the package chromium")
TOAST = "[data-sonner-toast]"
# Whether anything is drawn on a canvas.
DRAWN = """() => [...document.querySelectorAll('canvas')].some(
    canvas => canvas.width && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)
)"""
SECONDS = 60_000  # milliseconds; a shared machine may take a while


class Shop:
    """A running Dagster with two runs: one that built the sample, and one after a bad change of a model."""

    def __init__(self, dagster: Dagster):
        self.dagster = dagster
        self.url = f"http://127.0.0.1:{dagster.port}"
        # The sensor's, for the sample deliveries.
        self.built = dagster.wait(lambda: dagster.runs())[0]["runId"]
        dagster.wait(lambda: dagster.statuses(self.built) == ["SUCCESS"])

    def fail(self) -> str:
        model = self.dagster.platform.project / "transform/models/marts/fct_orders.sql"
        text = model.read_text()
        model.write_text(text.replace("quantity * unit_price", "quantity * price"))
        run = self.dagster.launch(tags={"dagster/max_retries": "0"})
        self.dagster.wait(lambda: self.dagster.statuses(run) == ["FAILURE"])
        model.write_text(text)
        return run


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    platform = copied(tmp_path_factory.mktemp("browser"))
    shutil.copytree(ROOT / "seeds" / "landing", platform.landing, dirs_exist_ok=True)
    dagster = Dagster(platform)
    try:
        dagster.start()
        yield Shop(dagster)
    finally:
        dagster.stop()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    yield page
    page.close()


@pytest.fixture
def dagster_page(page, shop):
    """One on which nothing goes wrong."""
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    assert page.locator(TOAST).count() == 0
    assert errors == []


@pytest.fixture
def picture(page, tmp_path):
    """Keeps what the page shows when all of it has come."""
    folder = Path(os.environ.get("PICTURES", tmp_path))

    def take(name: str) -> None:
        page.mouse.move(0, 0)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take


def test_the_lineage_has_all_groups_and_of_a_mart_all_that_it_is_computed_from(shop, dagster_page, picture):
    nodes = shop.dagster.ask("{assetNodes {groupName isMaterializable}}")["assetNodes"]
    groups = {node["groupName"] for node in nodes if node["isMaterializable"]}
    dagster_page.goto(f"{shop.url}/asset-groups")
    drawn = dagster_page.locator("foreignObject")
    expect(drawn).to_have_count(len(groups))
    assert set(drawn.all_text_contents()) == groups

    dagster_page.set_viewport_size({"width": 1280, "height": 860})
    dagster_page.goto(f"{shop.url}/assets/marts/fct_orders?view=lineage&lineageScope=upstream&lineageDepth=10")
    for table in ("landing_orders", "stg_orders", "existing_orders", "fct_orders", "order_statuses"):
        expect(dagster_page.locator("foreignObject", has_text=table).first).to_be_visible()
    picture("lineage")


def test_the_entry_points_are_there(shop, dagster_page):
    dagster_page.goto(f"{shop.url}/jobs")
    expect(dagster_page.get_by_text("refresh", exact=True)).to_be_visible()
    dagster_page.goto(f"{shop.url}/automation")
    for name in ("nightly", "deliveries", "failing", "working_again"):
        expect(dagster_page.get_by_text(name, exact=True)).to_be_visible()


def test_a_table_shows_what_it_is_and_what_is_in_it(shop, dagster_page, picture):
    [(rows,)] = shop.dagster.platform.query("select count(*) from marts.fct_orders")
    dagster_page.goto(f"{shop.url}/assets/marts/fct_orders?view=events")
    expect(dagster_page.get_by_text(f"{rows} rows, newest delivery 2026-01-10")).to_be_visible()
    picture("table")
    dagster_page.goto(f"{shop.url}/assets/marts/fct_orders")
    for text in ("One row per order that is not gone", "data@shop.example", "Charges less refunds", "decimal(18,2)"):
        expect(dagster_page.get_by_text(text).first).to_be_visible()
    dagster_page.goto(f"{shop.url}/assets/marts/fct_orders?view=checks")
    expect(dagster_page.get_by_text("unique_fct_orders_order_id").first).to_be_visible()
    expect(dagster_page.get_by_text("amounts_of_an_order_add_up").first).to_be_visible()


def test_a_failed_run_shows_its_explanation_and_each_table_that_was_built(shop, dagster_page, picture):
    dagster_page.goto(f"{shop.url}/runs/{shop.fail()}")
    expect(dagster_page.get_by_text("Why: model_change: the code of fct_orders has changed").last).to_be_visible()
    expect(dagster_page.get_by_text("It blocks 4 tables").last).to_be_attached()
    dagster_page.set_viewport_size({"width": 1280, "height": 525})  # the explanation, without the stack below it
    dagster_page.get_by_text("View full message").last.click()
    expect(dagster_page.get_by_text("It blocks 4 tables").last).to_be_visible()
    picture("failed_run")
    dagster_page.goto(f"{shop.url}/runs/{shop.built}?logs=fct_orders")
    expect(dagster_page.get_by_text("Materialized value marts fct_orders.").first).to_be_visible()


def test_an_error_of_the_ui_would_be_seen(shop, page: Page):
    page.goto(f"{shop.url}/runs")
    expect(page.get_by_text("refresh", exact=True).first).to_be_visible()
    page.route("**/graphql*", lambda route: route.fulfill(json={"data": None, "errors": [{"message": "no"}]}))
    page.get_by_text("Automation").first.click()
    expect(page.locator(TOAST).first).to_be_visible()


@pytest.fixture
def site(shop):
    """dbt's documentation, as `make docs` serves it."""
    platform, port = shop.dagster.platform, free_port()
    run = platform.dbt("docs", "generate")
    assert run.code == 0, run.output
    shop.dagster.command("dbt", "docs", "serve", "--host", "127.0.0.1", "--port", str(port), "--no-browser")
    shop.dagster.wait(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
    return f"http://127.0.0.1:{port}"


def test_the_documentation_shows_descriptions_and_lineage(page, site, picture):
    page.goto(f"{site}/#!/model/model.shop.fct_orders")
    for text in ("One row per order that is not gone, in its latest state.", "Charges less refunds"):
        expect(page.get_by_text(text).first).to_be_visible()
    page.get_by_title("View Lineage Graph").click()
    page.wait_for_function(DRAWN)
    picture("documentation")
