"""Ten questions of an operator who sees the page for the first time, at night, with two tenants in trouble.

Each is answered in at most two clicks from the front page: `Clicks` counts them, and docs/page.md lists them.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.e2e.test_page import CHROMIUM, FLAGS, Site, until

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED, the operator's page: there is no Chromium here; see make browser"
)
ACME, GLOBEX = "ACME_PRD", "GLOBEX_TST"
SECONDS = 20_000.0
MOST = 2
COMMAND = re.compile(r"\brelay (tenants|messages|run|status|explain|queue|audit|outbox|check)\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """ACME_PRD: a refused message, and a document that is not accepted. GLOBEX_TST: ION is maintained."""
    one = Site(tmp_path_factory.mktemp("night"))
    try:
        one.faults(
            f"tenant={ACME}", "call=post", "status=400", "text=POISON", "error=the supplier is blocked"
        )
        one.faults(f"tenant={GLOBEX}", "call=ping", "status=503", "error=ION is being maintained")
        one.enqueue(ACME, "POISON", "--message-id", "PO-1")
        one.enqueue(ACME, "<order/>")
        one.enqueue(ACME, "<shipment/>", document="Sync.Unknown")
        one.enqueue(GLOBEX, "<order/>", "--message-id", "PO-2", "--key", "A")
        one.enqueue(GLOBEX, "<order/>", "--message-id", "PO-3", "--key", "B")
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def address(site: Site) -> str:
    at = site.run()
    until(lambda: site.states(ACME) == {"parked": 1, "delivered": 1, "pending": 1}, "ACME's to be settled")
    site.command("tenants", "pause", GLOBEX, "--reason", "moving the connection point")
    site.command("tenants", "resume", GLOBEX)
    until(lambda: site.state(GLOBEX) == "backing-off", "GLOBEX to back off")
    return at


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Clicks:
    """The page, from its front on; how often something was clicked. No view names a command to type."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0
        page.goto("/")
        self.has_no_command()

    def click(self, what: Locator) -> None:
        self.count += 1
        assert self.count <= MOST
        with self.page.expect_navigation():
            what.click()
        if "/run-book/" not in self.page.url:
            self.has_no_command()

    def has_no_command(self) -> None:
        assert COMMAND.search(self.text()) is None, self.text()

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True).first

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True).first

    def row(self, tenant: str) -> Locator:
        return self.page.locator("main tbody tr", has=self.page.get_by_role("link", name=tenant, exact=True))

    def text(self) -> str:
        return self.page.locator("main").inner_text()


@pytest.fixture
def night(browser: Browser, address: str) -> Iterator[Clicks]:
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(10_000)
    yield Clicks(context.new_page())
    context.close()


def test_1_why_does_it_wait(night: Clicks) -> None:
    """No click: the row says it. One: its code, in the run book."""
    expect(night.row(GLOBEX)).to_contain_text("ION is being maintained", timeout=SECONDS)
    code = night.row(GLOBEX).locator("a.code")
    expect(code).to_have_text("RELAY-101", timeout=SECONDS)
    night.click(code)
    assert "What you can do" in night.text()
    assert (night.count, night.page.url.endswith("/run-book/RELAY-101")) == (1, True)


def test_2_since_when(night: Clicks) -> None:
    """No click in words; one for the instant. Another try does not begin it anew."""
    expect(night.row(GLOBEX)).to_contain_text(re.compile(r"\d+ (s|min)"), timeout=SECONDS)
    night.click(night.link(GLOBEX))
    assert re.search(r"since .*ago", night.text())
    assert night.page.locator("ol time").first.get_attribute("datetime")


def test_3_until_when(night: Clicks, site: Site) -> None:
    """One click: when it is tried next."""
    night.click(night.link(GLOBEX))
    expect(night.page.locator("dl.facts", has_text="Next try")).to_contain_text(
        re.compile(r"in \d|now"), timeout=SECONDS
    )


def test_4_what_may_i_do(night: Clicks) -> None:
    """One click: what to do in words, and one button that stands out."""
    night.click(night.link(GLOBEX))
    expect(night.page.locator(".todo")).to_contain_text("tries again automatically")
    assert night.page.locator(".actions .main").all_inner_texts() == ["Ask ION again now"]


def test_5_did_it_help(night: Clicks) -> None:
    """Two clicks: the action, and what came of it where it was done."""
    night.click(night.link(GLOBEX))
    night.click(night.button("Ask ION again now"))
    expect(night.page.locator("main [role=status]").first).to_contain_text("being asked again")
    expect(night.page.locator(".lead")).to_contain_text("ION is being maintained")


def test_6_is_it_only_this_tenant(night: Clicks) -> None:
    """No click: every tenant in trouble has its mark and its reason, also one that is idle."""
    for tenant in (ACME, GLOBEX):
        expect(night.row(tenant).locator(".state")).to_have_class("state attention", timeout=SECONDS)
    assert night.page.locator("main tbody .state.halted, main tbody .state.attention").count() == 2


def test_7_what_was_parked_and_why(night: Clicks) -> None:
    """Two clicks: the number in the row leads to the messages with their reasons, and to each message."""
    expect(night.row(ACME)).to_contain_text("1 parked message needs an operator", timeout=SECONDS)
    night.click(night.page.locator(f'[data-cell="{ACME}.parked"]'))
    assert "the supplier is blocked" in night.text()
    night.click(night.link("PO-1"))
    assert "It is parked" in night.text()


def test_8_which_documents_are_not_accepted_and_what_is_to_be_changed(night: Clicks) -> None:
    """No click: which. One: what to change in ION, and the button to ask again."""
    expect(night.row(ACME)).to_contain_text("accepted by ION: Sync.Unknown", timeout=SECONDS)
    night.click(night.link(ACME))
    assert "add it to the connection point in ION Desk" in night.text()
    expect(night.button("Ask ION again now")).to_be_visible()


def test_9_is_the_relay_itself_alive_and_who_did_what(night: Clicks) -> None:
    """No click for the relays; one for what operators did."""
    expect(night.page.locator("main")).to_contain_text("running", timeout=SECONDS)
    night.click(night.link("Audit"))
    assert "moving the connection point" in night.text()
    assert "resume" in night.text()


def test_10_how_is_one_bad_message_stopped(night: Clicks) -> None:
    """Two clicks: the messages of the tenant, and the one; there is its button."""
    night.click(night.page.locator(f'[data-cell="{GLOBEX}.pending"]'))
    night.click(night.link("PO-2"))
    expect(night.button("Park…")).to_be_visible()


def test_a_paused_tenant_has_one_button_and_says_who_did_it(night: Clicks, site: Site) -> None:
    site.command("tenants", "pause", GLOBEX, "--reason", "moving the connection point")
    until(lambda: site.state(GLOBEX) == "paused", "GLOBEX to be paused")
    try:
        expect(night.row(GLOBEX)).to_contain_text("moving the connection point", timeout=SECONDS)
        night.click(night.link(GLOBEX))
        assert night.page.locator(".actions .main").all_inner_texts() == ["Resume"]
        night.click(night.button("Resume"))
        expect(night.page.locator("main [role=status]").first).to_contain_text("Resumed")
    finally:
        site.command("tenants", "resume", GLOBEX)
