"""The record: messages, redeliveries and requests; and the conformance checker over HTTP."""

import contextlib
import hashlib
import time
import tracemalloc

import aiohttp
import pytest

from relay.sandbox import Sandbox, SandboxTenant
from relay.sandbox.record import RequestRecord
from tests.sandbox.client import IonClient


async def test_messages_are_listed_in_the_order_of_arrival_with_their_documents_digest(
    sandbox: Sandbox, acme: IonClient, globex: IonClient
) -> None:
    began = time.time()
    document = b"<document/>" * 10
    await acme.post("m2", document, encoding="DEFLATE", documentId="D-7")
    await globex.post("m1", b"g")
    await acme.post("m1", b"a")
    every = sandbox.messages()
    assert [(taken.number, taken.tenant_id, taken.message_id) for taken in every] == [
        (1, "ACME_PRD", "m2"),
        (2, "GLOBEX_TST", "m1"),
        (3, "ACME_PRD", "m1"),
    ]
    assert (every[0].sha256, every[0].size) == (hashlib.sha256(document).hexdigest(), len(document))
    assert (every[0].document_name, every[0].times, every[0].outcome) == (
        "Sync.SalesOrder",
        1,
        "answered 202",
    )
    assert began - 1 < every[0].at < time.time() + 1
    content = sandbox.record.content("acme_prd", "m2")
    assert content is not None
    assert (content.document, content.parameters["documentId"]) == (document, "D-7")


async def test_a_redelivered_message_is_listed_once_with_its_previous_outcomes(
    sandbox: Sandbox, acme: IonClient
) -> None:
    for _ in range(3):
        await acme.post("m1")
    await acme.post("m2")
    (taken,) = sandbox.record.sent_twice()
    assert (taken.message_id, taken.times, taken.changed) == ("m1", 3, False)
    assert [(again.number, again.previous_outcome) for again in taken.redeliveries or ()] == [
        (2, "answered 202"),
        (3, "answered 202"),
    ]
    assert sandbox.record.count() == 2
    assert sandbox.record.taken == 4
    assert [violation.kind for violation in sandbox.violations] == ["post-before-initialisation"] * 4


async def test_a_message_id_with_another_content_is_taken_and_a_violation(
    sandbox: Sandbox, acme: IonClient
) -> None:
    await acme.initialise()
    await acme.post("m1", b"a")
    await acme.post("m1", b"b")
    assert [violation.kind for violation in sandbox.violations] == ["message-id-reused"]
    await acme.post("m2", b"a")
    await acme.post("m2", b"a", documentName="Sync.Shipment")
    assert [violation.message_id for violation in sandbox.violations] == ["m1", "m2"]
    taken = sandbox.record.message("ACME_PRD", "m1")
    assert taken is not None
    assert taken.changed


async def test_the_same_id_of_two_tenants_is_two_messages(
    sandbox: Sandbox, acme: IonClient, globex: IonClient
) -> None:
    await acme.post("m1", b"a")
    await globex.post("m1", b"b")
    assert (sandbox.payload("ACME_PRD", "m1"), sandbox.payload("GLOBEX_TST", "m1")) == (b"a", b"b")
    assert sandbox.record.sent_twice() == []


async def test_a_message_without_an_id_gets_one(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.post(None)
    await acme.post(None)
    assert [taken.message_id for taken in sandbox.messages()] == ["no-message-id-1", "no-message-id-2"]


async def test_requests_are_logged_with_status_code_reason_and_message(
    sandbox: Sandbox, acme: IonClient
) -> None:
    await acme.initialise()
    await acme.post("m1")
    await acme.post("m2", location="x" * 23)
    token, *_, first, second = sandbox.requests("ACME_PRD")
    assert (token.call, token.method, token.target) == ("token", "POST", "/ACME_PRD/as/token.oauth2")
    assert (first.status, first.code, first.message_id, first.why) == (202, 202, "m1", "")
    assert (second.status, second.code, second.message_id) == (400, 400, "m2")
    assert second.why == "location must be a text of 1 to 22 characters"
    assert second.seconds is not None
    assert sandbox.record.counts["ACME_PRD", "post", 400] == 1
    assert [request.call for request in sandbox.requests(call="ping")] == ["ping"]


async def test_the_record_contains_no_secret(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.initialise()
    await acme.token_request({"grant_type": "password", "password": "a-secret"})
    text = str([request.as_json() for request in sandbox.requests()])
    credentials = sandbox.tenant("ACME_PRD").credentials
    for secret in (acme.token, credentials.client_secret, credentials.password, "a-secret"):
        assert secret is not None
        assert secret not in text


def test_payloads_are_kept_up_to_their_budget_the_newest_ones() -> None:
    record = RequestRecord(payload_bytes=100, request_limit=10)
    for number in range(10):
        record.take("T", {"messageId": f"m{number}", "documentName": "D"}, b"x" * 30, 0.0)
    assert [n for n in range(10) if record.content("T", f"m{n}")] == [7, 8, 9]
    assert record.count() == 10
    nothing = RequestRecord(payload_bytes=0, request_limit=10)
    nothing.take("T", {"messageId": "m", "documentName": "D"}, b"x", 0.0)
    assert nothing.content("T", "m") is None


def test_the_request_log_is_limited_and_the_counts_are_not() -> None:
    record = RequestRecord(payload_bytes=0, request_limit=10)
    for _ in range(50):
        record.close(record.open("ping", "GET", "/ping", 0.0, 0.0), 1.0)
    assert [request.number for request in record.requests] == list(range(41, 51))
    assert record.counts[None, "ping", 0] == 50


def test_hundreds_of_thousands_of_messages_cost_a_few_hundred_bytes_each() -> None:
    record, number = RequestRecord(payload_bytes=0, request_limit=10), 20_000
    tracemalloc.start()
    try:
        for place in range(number):
            record.take("T", {"messageId": f"{place:032x}", "documentName": "D"}, b"x" * 2000, 0.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / number < 700


async def test_clear_record_empties_record_log_and_violations(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.post("m1")
    assert sandbox.violations
    sandbox.clear_record()
    assert (sandbox.messages(), sandbox.requests(), sandbox.violations) == ([], [], [])
    assert sandbox.payload("ACME_PRD", "m1") is None


async def test_until_ends_with_the_fact_or_with_a_time_out(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.post("m1")
    await sandbox.until(lambda: sandbox.record.count() == 1)
    with pytest.raises(TimeoutError):
        await sandbox.until(lambda: sandbox.record.count() == 2, within=0.01)


# --- the conformance checker over HTTP; its rules are tested in test_conformance.py ---------------------------


async def test_a_client_that_follows_the_guide_through_faults_has_no_violation(
    sandbox: Sandbox, acme: IonClient
) -> None:
    await acme.initialise()
    for status in (503, 401, 429):
        sandbox.faults(call="post", status=status, count=1)
        assert (await acme.post("m1")).status == status
        assert (await acme.ping()).status == 200
    sandbox.faults(call="post", cut="after", count=1)
    with pytest.raises(aiohttp.ClientError):
        await acme.post("m1")
    await acme.ping()
    assert (await acme.post("m1")).status == 202
    sandbox.tenant("ACME_PRD").withdraw("Sync.SalesOrder")
    assert (await acme.post("m2")).status == 412
    await acme.initialise()
    assert (await acme.post("m3", documentName="Sync.Shipment")).status == 202
    assert sandbox.violations == []


@pytest.mark.parametrize("faults", [{"status": 503}, {"cut": "before"}, {"cut": "after"}, {"status": 302}])
async def test_a_post_repeated_straight_after_its_failure_is_a_violation(
    sandbox: Sandbox, acme: IonClient, faults: dict[str, object]
) -> None:
    await acme.initialise()
    sandbox.faults(call="post", count=1, **faults)
    with contextlib.suppress(aiohttp.ClientError):
        await acme.post("m1")
    await acme.post("m1")
    assert "post-without-ping" in [violation.kind for violation in sandbox.violations]


async def test_a_client_that_gave_up_waiting_must_ping_too(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.initialise()
    sandbox.faults(call="post", delay=3600, count=1)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as impatient:
        acme._session, patient = impatient, acme._session
        with pytest.raises(TimeoutError):
            await acme.post("m1")
        acme._session = patient
    await sandbox.until(lambda: any("went away" in request.why for request in sandbox.requests()))
    await acme.post("m1")
    assert [violation.kind for violation in sandbox.violations] == ["post-without-ping"]


async def test_posts_with_an_expired_token_count_for_their_tenant(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.initialise()
    sandbox.tokens.revoke(sandbox.tenant("ACME_PRD"))
    assert (await acme.post("m1")).status == 401
    acme.token = None
    assert (await acme.post("m1")).status == 202
    assert [violation.kind for violation in sandbox.violations] == ["post-without-ping"]


async def test_a_document_that_was_never_listed_is_a_violation(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.initialise()
    sandbox.tenant("ACME_PRD").add("Sync.Item")
    assert (await acme.post("m1", documentName="Sync.Item")).status == 202
    assert [violation.kind for violation in sandbox.violations] == ["document-not-listed"]


@pytest.mark.parametrize("body", ["truncated", "not-json", "wrong-types"])
async def test_a_spoilt_list_of_documents_completes_no_initialisation(
    sandbox: Sandbox, acme: IonClient, body: str
) -> None:
    sandbox.faults(call="acceptedDocuments", body=body, count=1)
    await acme.ping()
    await acme.versions()
    with contextlib.suppress(aiohttp.ClientError):
        await acme.accepted()
    await acme.post()
    assert [violation.kind for violation in sandbox.violations] == ["post-before-initialisation"]


async def test_versions_without_v3_complete_no_initialisation(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.tenant("ACME_PRD").versions = ("v1", "v2")
    await acme.initialise()
    await acme.post()
    assert [violation.kind for violation in sandbox.violations] == ["post-before-initialisation"]


async def test_a_ping_is_classified_by_its_status_alone(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="ping", body="not-json")
    await acme.initialise()
    await acme.post()
    assert sandbox.violations == []


async def test_a_hot_loop_over_http_is_a_violation(acme: IonClient) -> None:
    async with (
        Sandbox([SandboxTenant("ACME_PRD")], hot_loop=3) as sandbox,
        IonClient(sandbox, "ACME_PRD") as hot,
    ):
        sandbox.faults(call="ping", status=503)
        for _ in range(5):
            await hot.ping()
        assert [violation.kind for violation in sandbox.violations] == ["hot-loop"]
        assert sandbox.violations[0].request == 5
