"""The operator's page in a real browser, on a real relay that delivers messages to the ION simulator.

Every view, every action, the keyboard alone, a narrow screen, hostile texts in every field, and what axe-core says.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.application import Application, OutboxRow
from tests.support.process import COMMAND, QUICK

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROOT = Path(__file__).parents[2]
"""This checkout's relay is tested, whatever is installed."""

EVIL = '<img src=x onerror="window.stolen=1">"\'&{{7*7}}'
WITHIN = 20.0

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED, the operator's page: there is no Chromium here; see make browser"
)


def until(fact: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
    """Wait for a fact."""
    end = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


class Site:
    """An ION simulator, an outbox, and a relay with its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.application = Application(folder / "outbox.db")
        self.processes: list[subprocess.Popen[bytes]] = []
        ready = folder / "sandbox.json"
        where = ["--port", "0", "--directory", str(folder), "--ready-file", str(ready)]
        self.start("sandbox", *where, environment={**os.environ, "PYTHONPATH": str(ROOT)})
        until(ready.exists, "the ION simulator")
        self.sandbox = json.loads(ready.read_text())
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            **QUICK,
            **self.sandbox["environment"],
            "RELAY_OUTBOX__URL": f"sqlite:///{folder / 'outbox.db'}",
            "RELAY_WEB__LISTEN": "127.0.0.1:0",
        }
        self.command("outbox", "upgrade")

    def start(self, *words: str, environment: dict[str, str]) -> Path:
        """A process; where its log is."""
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as file:
            self.processes.append(
                subprocess.Popen(
                    [*COMMAND, *words],
                    cwd=self.folder,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                )
            )
        return log

    def run(self, **environment: str) -> str:
        """A relay; the address of its page."""
        log = self.start("run", environment={**self.environment, **environment})
        line = until(
            lambda: [text for text in log.read_text().splitlines() if "web.opened" in text], "the page"
        )
        return f"http://{json.loads(line[0])['address']}"

    def command(self, *words: str) -> str:
        """A command in the relay's folder; what it printed."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def faults(self, *fields: str) -> None:
        """Inject faults."""
        self.command("sandbox", "faults", "add", "--url", self.sandbox["url"], *fields)

    def enqueue(self, tenant: str, text: str, *words: str, document: str = "Sync.SalesOrder") -> str:
        """Enqueue a document; its message id."""
        file = self.folder / "document"
        file.write_text(text)
        return self.command("enqueue", "--tenant", tenant, "--document", document, *words, str(file)).strip()

    def states(self, tenant: str) -> dict[str, int]:
        """The tenant's messages by state."""
        return self.application.states(tenant)

    def state(self, tenant: str) -> str:
        """How the tenant is."""
        text: str = json.loads(self.command("status", "--json"))["tenants"][tenant]["state"]
        return text

    def end(self) -> None:
        """End all of it."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(20)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """ACME_PRD: three refused messages with hostile texts. GLOBEX_TST: its ION is unavailable."""
    one = Site(tmp_path_factory.mktemp("page"))
    try:
        one.faults("tenant=ACME_PRD", "call=post", "status=400", "text=POISON", f"error={EVIL}")
        one.faults("tenant=GLOBEX_TST", "call=ping", "status=503", f"error={EVIL}")
        for number in range(3):
            evil = f"PO-{number}-{EVIL}"
            parameter = ["--parameter", f"documentId={EVIL}"]
            one.enqueue("ACME_PRD", f"POISON {EVIL}", "--message-id", evil, "--key", EVIL, *parameter)
            one.enqueue("ACME_PRD", "<order/>")
            one.enqueue("GLOBEX_TST", "<order/>", "--key", f"K{number}")
        one.enqueue("ACME_PRD", "<order/>", document=EVIL)
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def address(site: Site) -> str:
    """The page of a relay that asks for no token, once every message that can be settled is settled."""
    at = site.run()
    settled = {"parked": 3, "delivered": 3, "pending": 1}
    until(lambda: site.states("ACME_PRD") == settled, "ACME's messages to be settled")
    until(lambda: site.state("GLOBEX_TST") == "backing-off", "GLOBEX to be backing off")
    return at


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        assert CHROMIUM is not None
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page of its own browser; nothing hostile has come true when the test ends, and no script failed."""
    context = browser.new_context(base_url=address, viewport={"width": 1200, "height": 800})
    context.set_default_timeout(10_000)
    opened = context.new_page()
    incidents: list[str] = []
    opened.on("pageerror", lambda error: incidents.append(str(error)))
    opened.on("console", lambda line: incidents.append(line.text) if line.type == "error" else None)
    yield opened
    if opened.url.startswith("http"):
        assert opened.evaluate("window.stolen") is None
    context.close()
    assert [line for line in incidents if "status of 4" not in line] == []


def shown(page: Page) -> str:
    return page.locator("main").inner_text()


def view(page: Page, path: str) -> Page:
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200, answer.text()
    return page


def view_with(page: Page, path: str, *texts: str) -> Page:
    """A view, loaded until it shows these texts: it is made from an overview that is cached for some seconds."""
    until(lambda: all(text in shown(view(page, path)) for text in texts), f"{path} to show {texts}")
    return page


def press(page: Page, button: str) -> None:
    """Press a button, and wait for the page that it leads to."""
    with page.expect_navigation():
        page.get_by_role("button", name=button).click()


def follow(page: Page, link: Locator) -> None:
    """Follow a link, and wait for the page that it leads to."""
    with page.expect_navigation():
        link.click()


VIEWS = [
    "/",
    "/tenants/ACME_PRD",
    "/tenants/GLOBEX_TST",
    "/messages?state=parked",
    "/messages?tenant=ACME_PRD&state=delivered",
    "/audit",
]


# --- looking ----------------------------------------------------------------------------------------------


def test_the_overview_says_of_each_tenant_how_it_is_and_why(page: Page) -> None:
    view(page, "/")
    row = page.locator("tbody tr", has_text="GLOBEX_TST")
    expect(row).to_contain_text("backing-off", timeout=WITHIN * 1000)
    expect(row).to_contain_text("HTTP 503", timeout=WITHIN * 1000)
    expect(page.locator('[data-cell="ACME_PRD.parked"]')).to_have_text("3", timeout=WITHIN * 1000)
    view_with(page, "/", "running")


def test_an_open_overview_is_kept_up_to_date(page: Page, site: Site) -> None:
    view(page, "/")
    expect(page.locator("#live")).to_have_text("Live updates are on.")
    cell = page.locator('[data-cell="ACME_PRD.delivered"]')
    before = site.states("ACME_PRD")["delivered"]
    expect(cell).to_have_text(str(before), timeout=WITHIN * 1000)
    site.enqueue("ACME_PRD", "<order/>")
    expect(cell).to_have_text(str(before + 1), timeout=WITHIN * 1000)


def test_a_tenant_shows_why_it_waits_and_its_lines_of_the_log(page: Page) -> None:
    view_with(page, "/tenants/GLOBEX_TST", "ION fails for this tenant", "incident.opened")
    assert "Sync.SalesOrder" in page.locator("table.shape").inner_text()


def test_a_tenant_shows_accepted_documents_against_waiting_ones(page: Page) -> None:
    view_with(page, "/tenants/ACME_PRD", "Sync.SalesOrder", EVIL)
    assert "Sync.SalesOrder" in page.locator("h2", has_text="What ION accepts").locator("+ p").inner_text()
    row = page.locator("table.shape tbody tr")
    assert EVIL in row.inner_text()
    until(
        lambda: view(page, "/tenants/ACME_PRD").locator("table.shape td").first.inner_text() == "no",
        "the document to be shown as not accepted",
    )


def test_a_message_shows_its_whole_history(page: Page) -> None:
    view(page, "/messages?state=parked")
    follow(page, page.locator("tbody a").first)
    text = shown(page)
    assert EVIL in page.locator("h1").inner_text()
    assert "enqueued" in text
    assert "It is parked" in text
    assert text.count(EVIL) >= 4  # its id, its key, a parameter, ION's reason


def test_messages_are_filtered_by_what_the_form_asks(page: Page) -> None:
    view(page, "/messages")
    page.get_by_label("Tenant").fill("acme_prd")
    page.get_by_label("State").select_option("delivered")
    press(page, "Show")
    states = page.locator("tbody .state").all_inner_texts()
    assert states
    assert set(states) == {"delivered"}
    page.get_by_label("State").select_option("parked")
    page.get_by_label("Reason contains").fill("no such reason")
    press(page, "Show")
    assert "There are no such messages." in shown(page)


def test_what_is_not_there_is_said(page: Page) -> None:
    for path in ("/tenants/NOBODY", "/message?tenant=ACME_PRD&id=none", "/audit/999999"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 404
        assert page.locator("[role=alert]").inner_text()


# --- acting -----------------------------------------------------------------------------------------------


def test_a_tenant_is_paused_with_a_reason_and_resumed(page: Page, site: Site) -> None:
    view(page, "/tenants/GLOBEX_TST")
    page.get_by_label("Why").fill(f"moving {EVIL}")
    press(page, "Pause")
    expect(page.locator(".lead .state")).to_have_text("paused")
    assert f"moving {EVIL}" in shown(page)
    press(page, "Resume")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".lead .state")).to_have_text("backing-off", timeout=WITHIN * 1000)
    view(page, "/audit")
    assert "operator@127.0.0.1" in shown(page)
    assert f"moving {EVIL}" in shown(page)


def test_ion_is_asked_again_at_once(page: Page, site: Site) -> None:
    def pings() -> int:
        words = (
            "sandbox",
            "requests",
            "--url",
            site.sandbox["url"],
            "--tenant",
            "GLOBEX_TST",
            "--call",
            "ping",
        )
        return len(site.command(*words).splitlines())

    view(page, "/tenants/GLOBEX_TST")
    before = pings()
    press(page, "Ask ION again now")
    until(lambda: pings() > before, "another ping")
    view(page, "/audit")
    assert "ask" in page.locator("tbody tr").first.inner_text()


def test_one_message_is_parked_retried_and_dropped_each_after_a_preview(page: Page, site: Site) -> None:
    message_id = site.enqueue("GLOBEX_TST", "<order/>", "--key", "single")
    outcomes = {"Park": "done", "Retry": "1 waiting", "Drop": "done"}
    for what, state in (("Park", "parked"), ("Retry", "pending"), ("Drop", "dropped")):
        view(page, f"/message?tenant=GLOBEX_TST&id={message_id}")
        press(page, f"{what}…")
        assert "1 message would be" in page.locator("h1").inner_text()
        press(page, f"{what} 1 message")
        expect(page.locator(".lead .state")).to_have_text(outcomes[what], timeout=WITHIN * 1000)
        assert page.locator("h1").inner_text() == f"{what}: 1 message"
        assert json.loads(site.command("messages", "show", message_id, "--json"))["state"] == state


def test_many_are_decided_about_after_a_preview_and_only_those_it_showed(page: Page, site: Site) -> None:
    for number in range(5):
        site.enqueue("GLOBEX_TST", "<order/>", "--key", f"bulk{number}", document="Orders_JSON")
    view(page, "/messages?tenant=GLOBEX_TST&state=pending&document=Orders_JSON")
    press(page, "Park…")
    assert "5 messages would be parked" in page.locator("h1").inner_text()
    site.enqueue("GLOBEX_TST", "<order/>", "--key", "late", document="Orders_JSON")
    press(page, "Park 5 messages")
    expect(page.locator(".lead .state")).to_have_text("done", timeout=WITHIN * 1000)
    assert "5 messages" in page.locator("h1").inner_text()
    listed = json.loads(
        site.command("messages", "list", "--tenant", "GLOBEX_TST", "--document", "Orders_JSON", "--json")
    )
    assert sorted(one["state"] for one in listed) == ["parked"] * 5 + ["pending"]


def test_a_long_list_is_shown_page_by_page(page: Page, site: Site) -> None:
    ids = site.application.insert_all(
        OutboxRow("GLOBEX_TST", "<order/>", "Leaves", f"leaf{number}") for number in range(230)
    )
    view(page, "/messages?tenant=GLOBEX_TST&document=Leaves&state=pending")
    seen = page.locator("tbody th").all_inner_texts()
    assert page.get_by_role("link", name="First page").count() == 0
    for _ in range(2):
        follow(page, page.get_by_role("link", name="Next page"))
        seen += page.locator("tbody th").all_inner_texts()
    assert [len(seen), seen] == [230, ids]
    assert page.get_by_role("link", name="Next page").count() == 0
    follow(page, page.get_by_role("link", name="First page"))
    expect(page.locator("tbody th").first).to_have_text(ids[0])


def test_a_decision_about_many_is_cancelled_and_what_is_done_stays_done(page: Page, site: Site) -> None:
    site.application.insert_all(OutboxRow("GLOBEX_TST", "<order/>", "Crowd", "one") for _ in range(40_000))
    view(page, "/messages?tenant=GLOBEX_TST&document=Crowd&state=pending")
    press(page, "Park…")
    press(page, "Park 40,000 messages")
    page.get_by_role("button", name="Cancel the rest").click()
    expect(page.locator(".lead .state")).to_have_text("cancelled", timeout=WITHIN * 1000)
    count = "SELECT count(*) AS n FROM relay_outbox WHERE document_name = 'Crowd' AND state = 'parked'"
    (parked,) = site.application.ask(count)
    assert 0 < parked["n"] < 40_000
    assert page.locator("h1").inner_text() == f"Park: {parked['n']:,} messages"
    time.sleep(0.5)
    assert site.application.ask(count) == [parked]


def test_a_document_is_shown_escaped_and_that_is_audited(page: Page) -> None:
    view(page, "/messages?tenant=ACME_PRD&state=parked")
    follow(page, page.locator("tbody a").first)
    press(page, "Show the document")
    assert page.locator("pre").inner_text() == f"POISON {EVIL}"
    view(page, "/audit")
    first = page.locator("tbody tr").first.inner_text()
    assert "show" in first
    assert "the document of" in first


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    """From the overview to a tenant, and an action there, by Tab and Enter."""
    view(page, "/")

    def go_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if name == page.evaluate("document.activeElement.textContent.trim()"):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"{name} is not reached by the keyboard")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    go_to("GLOBEX_TST")
    with page.expect_navigation(url="**/tenants/GLOBEX_TST"):
        page.keyboard.press("Enter")
    go_to("Ask ION again now")
    with page.expect_navigation(url="**/tenants/GLOBEX_TST"):
        page.keyboard.press("Enter")


# --- for everyone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", VIEWS)
def test_a_narrow_screen_scrolls_no_page_sideways(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    view(page, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", VIEWS)
def test_axe_finds_nothing(page: Page, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
    view(page, path)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_without_scripts_everything_can_be_read_and_done(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    view(page, "/")
    follow(page, page.get_by_role("link", name="GLOBEX_TST"))
    press(page, "Ask ION again now")
    assert page.url.endswith("/tenants/GLOBEX_TST")
    context.close()


# --- tokens -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(site: Site) -> str:
    """The page of a relay of its own that asks for tokens."""
    operator, reader = site.folder / "operator", site.folder / "reader"
    operator.write_text("operator-token-0123456789\n")
    reader.write_text("reader-token-0123456789\n")
    return site.run(
        RELAY_OUTBOX__URL=f"sqlite:///{site.folder / 'other.db'}",
        RELAY_WEB__TOKEN_FILE=str(operator),
        RELAY_WEB__READ_TOKEN_FILE=str(reader),
    )


def enter(page: Page, token: str) -> None:
    page.goto("/")
    page.get_by_label("Token").fill(token)
    press(page, "Sign in")


def test_a_wrong_token_is_turned_away_and_the_right_one_let_in(browser: Browser, guarded: str) -> None:
    context = browser.new_context(base_url=guarded)
    page = context.new_page()
    enter(page, "a-guess")
    assert "not a token of this relay" in page.locator("[role=alert]").inner_text()
    enter(page, "operator-token-0123456789")
    expect(page.locator(".role")).to_have_text("operator")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    context.close()


def test_a_reader_sees_no_document_and_no_button_but_to_sign_out(browser: Browser, guarded: str) -> None:
    context = browser.new_context(base_url=guarded)
    page = context.new_page()
    enter(page, "reader-token-0123456789")
    expect(page.locator(".role")).to_have_text("reader")
    view(page, "/tenants/ACME_PRD")
    assert page.get_by_role("button").all_inner_texts() == ["Sign out"]
    press(page, "Sign out")
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/tenants/ACME_PRD")
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()
