"""What the calls of IMS are answered in fair weather."""

from relay.sandbox import Sandbox
from tests.sandbox.client import IonClient


async def test_the_sequence_of_the_guide_delivers_a_message_by_oauth_2(
    sandbox: Sandbox, acme: IonClient
) -> None:
    await acme.initialise()
    answer = await acme.post("m1", b"<a/>")
    assert (answer.status, answer.json) == (202, {"status": "OK", "code": 202})
    assert [taken.message_id for taken in sandbox.messages("ACME_PRD")] == ["m1"]
    assert sandbox.payload("ACME_PRD", "m1") == b"<a/>"
    assert [request.call for request in sandbox.requests("ACME_PRD")] == [
        "token",
        "ping",
        "versions",
        "acceptedDocuments",
        "post",
    ]
    assert sandbox.violations == []


async def test_the_sequence_of_the_guide_delivers_a_message_by_oauth_1(
    sandbox: Sandbox, globex: IonClient
) -> None:
    await globex.initialise()
    assert (await globex.post("m1", b"<a/>", encoding="DEFLATE")).status == 202
    assert sandbox.payload("GLOBEX_TST", "m1") == b"<a/>"
    assert sandbox.violations == []
