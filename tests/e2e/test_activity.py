"""The charts over time in a real browser: their numbers are those that were delivered, over restarts."""

import re
import signal
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.test_page import CHROMIUM, FLAGS, Site, until

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED, the charts of the page: there is no Chromium here; see make browser"
)

COLUMNS = ("Delivered", "Failed tries", "Parked", "Waiting, at most")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        assert CHROMIUM is not None
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Seven messages are delivered and two parked by one relay, three delivered by the next; GLOBEX's ION is away."""
    one = Site(tmp_path_factory.mktemp("activity"))
    try:
        one.faults("tenant=ACME_PRD", "call=post", "status=400", "text=POISON")
        one.faults("tenant=GLOBEX_TST", "call=post", "status=503")
        for text in ["<order/>"] * 7 + ["POISON"] * 2:
            one.enqueue("ACME_PRD", text)
        one.enqueue("GLOBEX_TST", "<order/>")
        one.run()
        until(
            lambda: one.states("ACME_PRD") == {"delivered": 7, "parked": 2}, "ACME's messages to be settled"
        )
        until(lambda: one.state("GLOBEX_TST") == "backing-off", "GLOBEX to be backing off")
        one.processes[-1].send_signal(signal.SIGTERM)
        assert one.processes[-1].wait(20) == 0
        for _ in range(3):
            one.enqueue("ACME_PRD", "<order/>")
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def address(site: Site) -> str:
    """The page of the second relay, once it has delivered."""
    at = site.run()
    until(lambda: site.states("ACME_PRD") == {"delivered": 10, "parked": 2}, "the rest to be delivered")
    return at


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(base_url=address, viewport={"width": 1200, "height": 800})
    context.set_default_timeout(10_000)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    yield opened
    context.close()
    assert errors == []


def sums(page: Page) -> dict[str, int]:
    """Of the columns of the table; of what waits, the most."""
    rows = page.locator(".activity-table tbody tr").all()
    texts = [row.locator("td").all_text_contents() for row in rows]
    known = [[int(text.replace(",", "")) for text in row] for row in texts if row != ["not recorded"]]
    delivered, failed, parked, waiting = zip(*known, strict=True)
    return dict(zip(COLUMNS, (sum(delivered), sum(failed), sum(parked), max(waiting)), strict=True))


def view(page: Page, path: str, delivered: int) -> dict[str, int]:
    """The view's table, once so many deliveries are recorded: the relay writes every few seconds."""

    def found() -> dict[str, int] | None:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200
        columns = sums(page)
        return columns if columns["Delivered"] >= delivered else None

    columns: dict[str, int] = until(found, f"{path} to show {delivered} deliveries")
    return columns


@pytest.mark.parametrize("name", ["hour", "day"])
def test_the_table_has_the_numbers_that_were_delivered_and_refused_by_both_relays(
    page: Page, name: str
) -> None:
    acme = view(page, f"/tenants/ACME_PRD?range={name}", 10)
    assert acme == {
        "Delivered": 10,
        "Failed tries": 0,
        "Parked": 2,
        "Waiting, at most": acme["Waiting, at most"],
    }
    everyone = view(page, f"/?range={name}", 10)
    assert (everyone["Delivered"], everyone["Parked"]) == (10, 2)
    assert everyone["Failed tries"] >= 1
    assert everyone["Waiting, at most"] >= 1
    globex = view(page, f"/tenants/GLOBEX_TST?range={name}", 0)
    assert (globex["Delivered"], globex["Parked"], globex["Waiting, at most"]) == (0, 0, 1)
    assert globex["Failed tries"] >= 1


def test_a_reader_of_the_screen_hears_the_same_numbers(page: Page) -> None:
    view(page, "/tenants/ACME_PRD?range=hour", 10)
    names = [image.get_attribute("aria-label") or "" for image in page.locator("svg[role=img]").all()]
    assert [re.sub(r"\. The scale.*", "", name) for name in names[:2]] == [
        "Delivered, by minute over the last hour: 10 in the last hour",
        "Refused, by minute over the last hour: 2 parked (filled), 0 failed tries (outlined)",
    ]
    assert names[2].startswith("Waiting, by minute over the last hour: ")
    assert [header.text_content() for header in page.locator(".activity-table thead th").all()] == [
        "From (UTC)", *COLUMNS,
    ]  # fmt: skip
    assert "not recorded" in (page.locator(".activity-table").text_content() or "")
    assert Axe().run(page).response["violations"] == []


def test_the_bars_stand_for_the_rows_of_the_table(page: Page) -> None:
    view(page, "/tenants/ACME_PRD?range=hour", 10)
    delivered = page.locator(".activity-table tbody tr td:nth-of-type(1)").all_text_contents()
    bars = page.locator("svg.chart .bar.delivered").count()
    assert bars == sum(text not in ("0", "not recorded") for text in delivered)


def test_the_range_is_switched_by_a_link_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/tenants/ACME_PRD")
    page.get_by_role("link", name="Last day").click()
    assert "range=day" in page.url
    assert page.locator(".ranges [aria-current]").text_content() == "Last day"
    assert "by quarter of an hour over the last day" in (
        page.locator("svg[role=img]").first.get_attribute("aria-label") or ""
    )
    page.goto("/?all")
    page.get_by_role("link", name="Last day").click()
    assert "all" in page.url.partition("?")[2]
    page.goto("/?range=year%27%3B")
    assert page.locator(".ranges [aria-current]").text_content() == "Last hour"
    context.close()


def test_an_open_view_is_kept_fresh_and_its_table_stays_open(page: Page, site: Site) -> None:
    page.clock.install()
    before = view(page, "/tenants/ACME_PRD?range=day", 10)
    page.locator(".activity details > summary").click()
    site.enqueue("ACME_PRD", "<order/>")

    def fresh() -> bool:
        with page.expect_response(lambda answer: "/activity/" in answer.url):
            page.clock.fast_forward(21_000)
        page.wait_for_function("document.querySelector('.activity-table') !== null")
        return sums(page)["Delivered"] == before["Delivered"] + 1

    until(fresh, "the new delivery to be shown")
    assert page.locator(".activity details").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
