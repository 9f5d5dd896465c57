"""What people see: Dagster's UI and dbt's site, in a real browser. `make pictures` keeps what the README shows."""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, copied
from drill import Dagster, free_port
from playwright.sync_api import expect, sync_playwright

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not BROWSER, reason="it needs a browser: install the package chromium")
TOAST = "[data-sonner-toast]"
# A toast is gone after some seconds, or with its page; the console is kept.
LOG_TOASTS = f"""new MutationObserver(
    () => document.querySelectorAll('{TOAST}').forEach(toast => console.error(toast.innerText))
).observe(document, {{childList: true, subtree: true}})"""
# Whether anything is drawn on a canvas.
DRAWN = """() => [...document.querySelectorAll('canvas')].some(
    canvas => canvas.width && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)
)"""
SECONDS = 60_000  # milliseconds; a shared machine may take a while


class Shop:
    """A running Dagster that has built the sample."""

    def __init__(self, dagster: Dagster):
        self.dagster = dagster
        self.url = f"http://127.0.0.1:{dagster.port}"
        # The sensor's, for the sample deliveries.
        built = dagster.wait(lambda: dagster.runs())[0]["runId"]
        dagster.wait(lambda: dagster.statuses(built) == ["SUCCESS"])

    @contextlib.contextmanager
    def bad_change(self) -> Iterator[str]:
        """A run of a model that asks for a column that is not there; it has failed at the end."""
        model, platform = "transform/models/marts/fct_orders.sql", self.dagster.platform
        platform.edit(model, "quantity * unit_price", "quantity * price")
        run = self.dagster.launch(tags={"dagster/max_retries": "0"})
        yield run
        self.dagster.wait(lambda: self.dagster.statuses(run) == ["FAILURE"])
        platform.edit(model, "quantity * price", "quantity * unit_price")


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
        browser = playwright.chromium.launch(executable_path=BROWSER, chromium_sandbox=os.getuid() != 0)
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
def errors(page):
    """What goes wrong on all pages that are visited."""
    errors = []
    page.add_init_script(LOG_TOASTS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    return errors


@pytest.fixture
def visit(page, shop, errors):
    """Opens pages of Dagster, on which nothing goes wrong."""
    # All answers are waited for: a page that is left before would show no error.
    yield lambda path: page.goto(f"{shop.url}{path}", wait_until="networkidle")
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


def test_the_lineage_has_all_groups_and_of_a_mart_the_way_from_what_was_landed(shop, visit, page, picture):
    nodes = shop.dagster.ask("{assetNodes {groupName isMaterializable}}")["assetNodes"]
    groups = {node["groupName"] for node in nodes if node["isMaterializable"]}
    visit("/asset-groups")
    drawn = page.locator("foreignObject")
    expect(drawn).to_have_count(len(groups))
    assert set(drawn.all_text_contents()) == groups

    page.set_viewport_size({"width": 1280, "height": 860})
    visit("/assets/marts/fct_orders?view=lineage&lineageScope=upstream&lineageDepth=10")
    for table in ("landing_orders", "newest_contents", "live_batches", "stg_orders", "existing_orders", "fct_orders"):
        expect(page.locator("foreignObject", has_text=table).first).to_be_visible()
    picture("lineage")


def test_the_entry_points_are_there(visit, page):
    visit("/jobs")
    expect(page.get_by_text("refresh", exact=True)).to_be_visible()
    visit("/automation")
    for name in ("nightly", "deliveries", "failing", "working_again"):
        expect(page.get_by_text(name, exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("folder", "name", "texts", "check"),
    [
        (
            "marts",
            "fct_orders",
            ["One row per order that is not gone", "decimal(18,2)", "Charges less refunds; 0 where there are none."],
            "amounts_of_an_order_add_up",
        ),
        (
            "staging",
            "stg_orders",
            [
                "One row per data line of a live batch",
                "bigint",
                "Pieces ordered; null if what came is no whole number.",
            ],
            "numbered_stg_orders_row_no__batch_id",
        ),
    ],
    ids=["a mart", "a staging model"],
)
def test_a_table_shows_what_it_is_and_what_is_in_it(folder, name, texts, check, shop, visit, page):
    [(rows,)] = shop.dagster.platform.query(f"select count(*) from {folder}.{name}")
    visit(f"/assets/{folder}/{name}")
    for text in [*texts, f"{rows} rows, newest delivery 2026-01-10"]:
        expect(page.get_by_text(text).first).to_be_visible()
    for title, value in {"Group": folder, "Owners": "data@shop.example"}.items():
        expect(page.get_by_text(title, exact=True).locator("..")).to_contain_text(value)
    visit(f"/assets/{folder}/{name}?view=checks")
    expect(page.get_by_text(check).filter(visible=True).first).to_be_visible()


def test_each_build_of_a_table_says_what_was_in_it(shop, visit, page, picture):
    [(rows,)] = shop.dagster.platform.query("select count(*) from marts.fct_orders")
    visit("/assets/marts/fct_orders?view=events")
    expect(page.get_by_text(f"{rows} rows, newest delivery 2026-01-10")).to_be_visible()
    picture("table")


def test_a_run_shows_each_table_when_it_is_built_and_why_it_failed(shop, visit, page, picture):
    with shop.bad_change() as run:
        visit(f"/runs/{run}?logs=landing_orders")
        expect(page.get_by_text("Materialized value landing landing_orders.")).to_be_visible()
        assert shop.dagster.statuses(run) == ["STARTED"]
    page.set_viewport_size({"width": 1280, "height": 525})  # the explanation, without the stack below it
    visit(f"/runs/{run}")
    expect(page.get_by_text("Why: model_change: the code of fct_orders has changed").last).to_be_visible()
    page.get_by_text("View full message").last.click()
    expect(page.get_by_text("It blocks 4 tables").last).to_be_visible()
    picture("failed_run")


def test_an_error_of_the_ui_would_be_seen(shop, page, errors):
    page.goto(f"{shop.url}/runs", wait_until="networkidle")
    assert errors == []
    page.route("**/graphql*", lambda route: route.fulfill(json={"data": None, "errors": [{"message": "no"}]}))
    page.get_by_text("Automation").first.click()
    expect(page.locator(TOAST).first).to_be_visible()
    assert any("Unexpected GraphQL error" in error for error in errors)


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
