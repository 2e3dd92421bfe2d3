"""Activation: the simulator calls a receiving application before it activates the connection point."""

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from relay.sandbox import Sandbox
from tests.sandbox.client import IonClient


class Application:
    """A receiving application, with the answers that a test chooses."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        call = request.path.rpartition("/")[2]
        self.asked.append(request.path)
        self.authorizations.append(request.headers["Authorization"])
        status, body = self.answers.get(call, (200, "{}"))
        return web.Response(status=status, text=body)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    one = Application()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ACME_PRD"
    yield one
    await runner.cleanup()


async def _activate(acme: IonClient, at: str, **changed: object) -> tuple[int, dict[str, object]]:
    given = {"url": at, "consumer_key": "key", "consumer_secret": "secret"} | changed
    path = f"{acme.sandbox.url}/_sandbox/tenants/ACME_PRD/activate"
    answer = await acme.call("POST", path, data=json.dumps(given).encode())
    return answer.status, answer.json


async def test_an_application_that_answers_200_is_activated(
    acme: IonClient, sandbox: Sandbox, application: Application
) -> None:
    sandbox.tenant("ACME_PRD").connection_point = "inactive"
    status, answer = await _activate(acme, application.url)
    assert (status, answer["activated"]) == (200, True)
    assert application.asked == [f"/ACME_PRD/service/{call}" for call in ("ping", "versions", "protocol")]
    assert all(header.startswith("OAuth ") for header in application.authorizations)
    assert sandbox.tenant("ACME_PRD").connection_point == "active"


async def test_an_application_that_does_not_is_not_activated_and_its_answer_is_shown(
    acme: IonClient, sandbox: Sandbox, application: Application
) -> None:
    application.answers["versions"] = (503, '{"errors": ["the relay is stopping"]}')
    _, answer = await _activate(acme, application.url)
    assert answer == {
        "activated": False,
        "visits": [
            {"call": "ping", "status": 200, "answer": "{}"},
            {"call": "versions", "status": 503, "answer": "the relay is stopping"},
        ],
    }
    assert sandbox.tenant("ACME_PRD").connection_point == "inactive"


async def test_an_answer_that_is_no_json_is_shown_as_text(acme: IonClient, application: Application) -> None:
    application.answers["ping"] = (502, "<h1>Bad\n gateway</h1>")
    _, answer = await _activate(acme, application.url)
    assert answer["visits"] == [{"call": "ping", "status": 502, "answer": "<h1>Bad gateway</h1>"}]


async def test_an_application_that_is_not_running_gives_no_answer(
    acme: IonClient, unused_tcp_port: int
) -> None:
    _, answer = await _activate(acme, f"http://127.0.0.1:{unused_tcp_port}/ACME_PRD")
    assert answer["activated"] is False
    assert answer["visits"][0]["status"] is None  # type: ignore[index]


@pytest.mark.parametrize("changed", [{"url": "nowhere"}, {"consumer_key": 7}, {"url": "ftp://x/"}])
async def test_an_invalid_application_is_refused(acme: IonClient, changed: dict[str, object]) -> None:
    status, answer = await _activate(acme, "http://127.0.0.1:1", **changed)
    assert status == 400
    assert answer["error"]


async def test_an_unknown_tenant_is_not_found(acme: IonClient) -> None:
    answer = await acme.call("POST", f"{acme.sandbox.url}/_sandbox/tenants/NOBODY/activate", data=b"{}")
    assert answer.status == 404
