"""Faults: each field has its effect, for the tenant and call and as often as given."""

import asyncio
import json
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import get_args

import aiohttp
import pytest

from relay.sandbox import FaultError, Sandbox
from relay.sandbox.fault_spec import Compression, FaultSpec, FaultyBody, FaultyCall, TokenChange, Wire
from tests.sandbox.client import Got, IonClient

# --- answers --------------------------------------------------------------------------------------


async def test_a_status_is_answered_and_the_message_is_not_taken(sandbox: Sandbox, acme: IonClient) -> None:
    fault = sandbox.faults(call="post", status=503, count=2)
    for _ in range(2):
        answer = await acme.post()
        assert (answer.status, answer.code) == (503, 503)
    assert sandbox.messages() == []
    assert (await acme.post()).status == 202
    assert (fault.applied, fault.is_exhausted) == (2, True)
    assert [request.faults for request in sandbox.requests(call="post")] == [("f1",), ("f1",), ()]


async def test_a_fault_can_set_the_ims_code_and_the_text(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", status=400, code=540, error="as you like")
    answer = await acme.post()
    assert answer.json == {"status": "FAIL", "code": 540, "errors": ["as you like"]}


async def test_a_504_may_have_been_accepted(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", status=504, taken=True, count=1)
    assert (await acme.post()).status == 504
    assert [taken.outcome for taken in sandbox.messages()] == ["answered 504"]
    assert (await acme.post()).status == 202
    (taken,) = sandbox.record.sent_twice()
    assert (taken.times, taken.redeliveries and taken.redeliveries[0].previous_outcome) == (2, "answered 504")


async def test_a_fault_can_answer_any_2xx(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(status=200, call="post")
    sandbox.faults(status=204, call="ping")
    sandbox.faults(status=206, call="acceptedDocuments")
    assert (await acme.post()).status == 200
    assert len(sandbox.messages()) == 1
    ping, accepted = await acme.ping(), await acme.accepted()
    assert (ping.status, ping.body) == (204, b"")
    assert (accepted.status, accepted.json["acceptedDocuments"][0]) == (206, "Sync.SalesOrder")


async def test_a_redirect_has_a_location_that_does_not_exist(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="ping", status=302)
    assert (await acme.ping()).status == 404, "this client follows"
    assert [request.call for request in sandbox.requests()][-2:] == ["ping", "unknown"]


async def test_retry_after_in_seconds_as_a_date_and_as_nonsense(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="ping", status=429, retry_after=7, count=1)
    assert (await acme.ping()).headers["Retry-After"] == "7"
    sandbox.faults(call="ping", status=503, retry_after=1_000_000, count=1)
    assert (await acme.ping()).headers["Retry-After"] == "1000000"
    sandbox.faults(call="ping", status=503, retry_after="soon", count=1)
    assert (await acme.ping()).headers["Retry-After"] == "soon"
    sandbox.faults(call="ping", status=503, retry_after=60, retry_after_date=True, count=1)
    stamp = parsedate_to_datetime((await acme.ping()).headers["Retry-After"]).timestamp()
    assert 55 < stamp - time.time() < 61


async def test_a_cut_before_acceptance_takes_no_message(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", cut="before", count=1)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await acme.post()
    assert sandbox.messages() == []
    (request,) = sandbox.requests(call="post")
    assert (request.status, request.why) == (0, "cut before acceptance, by a fault")


async def test_a_cut_after_acceptance_takes_the_message(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", cut="after", count=1)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await acme.post("m1")
    assert [taken.message_id for taken in sandbox.messages()] == ["m1"]
    await acme.post("m1")
    (taken,) = sandbox.record.sent_twice("ACME_PRD")
    assert taken.redeliveries is not None
    assert taken.redeliveries[0].previous_outcome == "cut after acceptance, by a fault"


@pytest.mark.parametrize("call", ["ping", "post", "token"])
async def test_every_call_can_be_cut(sandbox: Sandbox, acme: IonClient, call: str) -> None:
    await acme.ping()
    sandbox.faults(call=call, cut="before")
    with pytest.raises(aiohttp.ClientConnectionError):
        await {"ping": acme.ping, "post": acme.post, "token": acme.token_request}[call]()


@pytest.mark.parametrize("call", ["ping", "versions", "acceptedDocuments", "post", "token"])
async def test_a_truncated_body_ends_before_its_announced_length(
    sandbox: Sandbox, acme: IonClient, call: str
) -> None:
    await acme.ping()
    sandbox.faults(call=call, body="truncated", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await _call(acme, call)
    assert len(sandbox.messages()) == (call == "post"), "it was taken all the same"
    await _call(acme, call)


@pytest.mark.parametrize("kind", ["not-json", "not-utf8", "empty", "html"])
@pytest.mark.parametrize("call", ["versions", "acceptedDocuments", "post", "token"])
async def test_a_hostile_body_cannot_be_read_as_json(
    sandbox: Sandbox, acme: IonClient, call: str, kind: str
) -> None:
    await acme.ping()
    sandbox.faults(call=call, body=kind)
    answer = await _call(acme, call)
    assert 200 <= answer.status < 300
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeDecodeError and JSONDecodeError are both expected
        json.loads(answer.body)
    if kind == "html":
        assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("call", ["versions", "acceptedDocuments", "post", "token"])
async def test_a_body_of_wrong_types_is_json_and_nothing_more(
    sandbox: Sandbox, acme: IonClient, call: str
) -> None:
    await acme.ping()
    right = (await _call(acme, call)).json
    sandbox.faults(call=call, body="wrong-types")
    wrong = (await _call(acme, call)).json
    assert any(type(wrong.get(name)) is not type(value) for name, value in right.items())


async def test_a_huge_body_is_as_long_as_announced_and_valid(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="ping", body="huge", count=1)
    answer = await acme.ping()
    assert len(answer.body) == int(answer.headers["Content-Length"]) > 50_000_000
    assert answer.json["status"] == "OK"


async def test_a_client_that_stops_reading_a_huge_body_harms_nothing(
    sandbox: Sandbox, acme: IonClient
) -> None:
    sandbox.faults(call="ping", body="huge", count=1)
    headers = {"Authorization": await acme.authorization("GET", "")}
    async with aiohttp.ClientSession() as session:
        response = await session.get(f"{acme.base}/ping", headers=headers)
        await response.content.read(1000)
        response.close()
    assert (await acme.ping()).status == 200


async def test_a_fault_can_choose_the_form_of_the_error_text(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", status=400, error="no", body="errors-text", count=1)
    assert (await acme.post()).json == {"status": "FAIL", "code": 400, "errors": "no"}
    sandbox.faults(call="post", status=400, error="no", body="message-text", count=1)
    assert (await acme.post()).json == {"status": "FAIL", "code": 400, "message": "no"}


async def test_the_token_service_fails_in_its_own_form(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="token", status=400, count=1)
    assert (await acme.token_request()).json["error"] == "invalid_grant"
    sandbox.faults(call="token", status=503, count=1)
    assert (await acme.token_request()).status == 503
    assert (await acme.token_request()).status == 200


# --- delays ---------------------------------------------------------------------------------------


async def test_a_delay_passes_before_the_message_is_taken(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.ping()
    sandbox.faults(call="post", delay=3600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await acme.post()
    await sandbox.until(lambda: any(r.why for r in sandbox.requests(call="post")))
    assert sandbox.messages() == []


async def test_a_late_answer_comes_after_the_message_was_taken(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", late=3600)
    posting = asyncio.create_task(acme.post())
    await sandbox.until(lambda: bool(sandbox.messages()))
    posting.cancel()
    await asyncio.wait([posting])
    await sandbox.until(lambda: "went away" in sandbox.messages()[0].outcome)


async def test_delays_add_up(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.ping()
    sandbox.faults(call="ping", delay=0.02)
    sandbox.faults(call="*", delay=0.03)
    began = time.monotonic()
    assert (await acme.ping()).status == 200
    assert time.monotonic() - began >= 0.05


async def test_stop_ends_delays_at_once(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.ping()
    sandbox.faults(call="ping", delay=3600)
    pinging = asyncio.create_task(acme.ping())
    await asyncio.wait([pinging], timeout=0.02)
    began = time.monotonic()
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientError):
        await pinging
    assert time.monotonic() - began < 0.9


# --- changes --------------------------------------------------------------------------------------


async def test_documents_can_be_withdrawn_and_added(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(tenant="acme_prd", withdraw="Sync.SalesOrder")
    sandbox.faults(tenant="ACME_PRD", add=["Sync.Item", "Sync.Other"])
    assert (await acme.accepted()).json["acceptedDocuments"] == ["Sync.Shipment", "Sync.Item", "Sync.Other"]
    assert sandbox.tenant("GLOBEX_TST").accepted == ["Sync.SalesOrder"]


async def test_a_change_waits_for_its_call(sandbox: Sandbox, acme: IonClient) -> None:
    fault = sandbox.faults(call="post", connection_point="inactive", skip=1, count=1)
    assert (await acme.post("m1")).status == 202
    assert (await acme.post("m2")).status == 412
    assert fault.applied == 1
    sandbox.faults(connection_point="active")
    assert (await acme.post("m2")).status == 202


async def test_a_change_waits_for_its_time(sandbox: Sandbox, acme: IonClient) -> None:
    fault = sandbox.faults(connection_point="missing", after=3600)
    assert (await acme.accepted()).status == 200
    fault.begins = time.monotonic()
    assert (await acme.accepted()).status == 412
    sandbox.tenant("ACME_PRD").connection_point = "active"
    assert (await acme.accepted()).status == 200, "it happens once"


async def test_tokens_expire_and_are_revoked(sandbox: Sandbox, acme: IonClient) -> None:
    for change in ("expire", "revoke"):
        acme.token = None
        assert (await acme.ping()).status == 200
        sandbox.faults(tenant="ACME_PRD", tokens=change)
        assert (await acme.ping()).status == 401


async def test_the_lifetime_of_tokens_and_the_versions_can_be_changed(
    sandbox: Sandbox, acme: IonClient
) -> None:
    sandbox.faults(token_seconds=60, versions=["v1", "v2"])
    assert (await acme.token_request()).json["expires_in"] == 60
    assert (await acme.versions()).json == {"supportedVersions": ["v1", "v2"]}


# --- tenant, call, frequency, time --------------------------------------------------------------------


async def test_a_fault_applies_to_its_tenant_and_call_only(
    sandbox: Sandbox, acme: IonClient, globex: IonClient
) -> None:
    sandbox.faults(tenant="ACME_PRD", call="ping", status=503)
    assert (await acme.ping()).status == 503
    assert (await acme.versions()).status == 200
    assert (await globex.ping()).status == 200


async def test_a_star_means_every_call(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.ping()
    sandbox.faults(status=503)
    for answer in (await acme.ping(), await acme.versions(), await acme.accepted(), await acme.post()):
        assert answer.status == 503
    assert (await acme.token_request()).status == 503


@pytest.mark.parametrize("encoding", ["NONE", "DEFLATE"])
async def test_a_fault_applies_to_messages_that_contain_its_text(
    sandbox: Sandbox, acme: IonClient, encoding: str
) -> None:
    fault = sandbox.faults(call="*", status=400, text="Müller")
    assert (await acme.ping()).status == 200
    assert (await acme.post("m1", "<n>Müller</n>".encode(), encoding=encoding)).status == 400
    assert (await acme.post("m2", b"<n>Meier</n>", encoding=encoding)).status == 202
    assert (await acme.post("m3", documentId="Müller", encoding=encoding)).status == 400
    assert fault.applied == 2


async def test_the_first_ones_can_be_skipped(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="ping", status=503, skip=2, count=1)
    assert [(await acme.ping()).status for _ in range(4)] == [200, 200, 503, 200]


async def test_a_share_is_a_share_and_its_seed_repeats_it(sandbox: Sandbox, acme: IonClient) -> None:
    async def draw(seed: int) -> list[int]:
        sandbox.clear_faults()
        sandbox.faults(call="ping", status=503, share=0.5, seed=seed)
        return [(await acme.ping()).status for _ in range(40)]

    first = await draw(1)
    assert 5 < first.count(503) < 35
    assert await draw(1) == first
    assert await draw(2) != first


async def test_a_fault_begins_and_ends_at_its_times(sandbox: Sandbox, acme: IonClient) -> None:
    fault = sandbox.faults(call="ping", status=503, after=3600, lasts=10)
    assert (fault.state(time.monotonic()), (await acme.ping()).status) == ("scheduled", 200)
    fault.begins -= 3600
    assert (fault.state(time.monotonic()), (await acme.ping()).status) == ("active", 503)
    fault.ends = time.monotonic()
    assert (fault.state(time.monotonic()), (await acme.ping()).status) == ("expired", 200)


async def test_of_two_faults_that_answer_the_first_applies_and_the_other_is_not_counted(
    sandbox: Sandbox, acme: IonClient
) -> None:
    first = sandbox.faults(call="ping", status=503, count=1)
    second = sandbox.faults(call="ping", status=429, count=1)
    assert [(await acme.ping()).status for _ in range(3)] == [503, 429, 200]
    assert (first.applied, second.applied) == (1, 1)


async def test_clear_faults_restores_normal_operation(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(status=503)
    sandbox.clear_faults()
    assert (await acme.ping()).status == 200


# --- invalid faults ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "faults[0]"),
        ({"call": "ping"}, "faults[0]"),
        ({"call": "pong", "status": 503}, "call"),
        ({"tenant": "NOBODY", "status": 503}, "tenant"),
        ({"tenant": "", "status": 503}, "tenant"),
        ({"status": "503"}, "status"),
        ({"status": True}, "status"),
        ({"status": 99}, "status"),
        ({"status": 503, "code": -1}, "code"),
        ({"code": 540, "call": "post", "delay": 1}, "code"),
        ({"error": "x", "delay": 1}, "error"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"cut": "later"}, "cut"),
        ({"cut": "before", "status": 503}, "status"),
        ({"cut": "before", "body": "empty"}, "body"),
        ({"cut": "after", "call": "ping"}, "call"),
        ({"body": "nice"}, "body"),
        ({"status": 204, "body": "html"}, "body"),
        ({"retry_after": -5}, "retry_after"),
        ({"retry_after_date": True}, "retry_after_date"),
        ({"add": []}, "add"),
        ({"withdraw": [1]}, "withdraw"),
        ({"connection_point": "broken"}, "connection_point"),
        ({"tokens": "steal"}, "tokens"),
        ({"token_seconds": 0}, "token_seconds"),
        ({"versions": 3}, "versions"),
        ({"status": 503, "count": 0}, "count"),
        ({"status": 503, "skip": -1}, "skip"),
        ({"status": 503, "lasts": 0}, "lasts"),
        ({"status": 503, "share": 0}, "share"),
        ({"status": 503, "share": 1.5}, "share"),
        ({"status": 503, "seed": "x"}, "seed"),
        ({"status": 503, "text": ""}, "text"),
        ({"status": 503, "text": "x", "call": "ping"}, "call"),
        ({"status": 503, "taken": True, "call": "ping"}, "call"),
        ({"status": 503, "taken": "yes"}, "taken"),
        ({"taken": True, "call": "post", "delay": 1}, "taken"),
        ({"cut": "before", "wire": "close"}, "wire"),
        ({"cut": "before", "compress": "gzip"}, "compress"),
        ({"cut": "before", "early": True}, "early"),
        ({"compress": "br"}, "compress"),
        ({"status": 204, "compress": "gzip"}, "compress"),
        ({"status": 304, "wire": "chunked"}, "wire"),
        ({"body": "many-names"}, "call"),
        ({"body": "impossible-names", "call": "post"}, "call"),
        ({"body": "many-names", "call": "acceptedDocuments", "status": 503}, "status"),
        ({"body": "html", "code": 540}, "code"),
        ({"body": "huge", "wire": "chunked"}, "wire"),
        ({"body": "truncated", "write_rate": 1}, "write_rate"),
        ({"wire": "upside-down"}, "wire"),
        ({"early": True}, "early"),
        ({"early": True, "status": 202}, "early"),
        ({"early": True, "status": 413, "taken": True, "call": "post"}, "taken"),
        ({"early": True, "status": 413, "late": 1, "call": "post"}, "late"),
        ({"early": True, "status": 413, "text": "x", "call": "post"}, "text"),
        ({"read_rate": 1, "text": "x", "call": "post"}, "text"),
        ({"read_rate": 0}, "read_rate"),
        ({"write_rate": -1}, "write_rate"),
        ({"clock": 10**7}, "clock"),
        ({"wrapper": "yes"}, "wrapper"),
        ({"wrapper": True, "count": 2}, "count"),
        ({"add": "D", "count": 2}, "count"),
        ({"add": "D", "lasts": 2}, "lasts"),
        ({"stauts": 503}, "stauts"),
    ],
)
async def test_an_invalid_fault_is_refused_with_the_field_that_is_wrong(
    sandbox: Sandbox, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(FaultError) as refused:
        sandbox.faults(**fields)
    assert refused.value.field.rpartition(".")[2] == field.rpartition(".")[2]
    assert sandbox.injected_faults == []


async def test_several_faults_are_added_all_or_none(sandbox: Sandbox) -> None:
    with pytest.raises(FaultError, match=r"faults\[1\]\.status"):
        sandbox.add_faults([{"status": 503}, {"status": 1}])
    assert sandbox.injected_faults == []
    assert [fault.id for fault in sandbox.add_faults([{"status": 503}, {"delay": 1}])] == ["f1", "f2"]


async def test_a_fault_that_is_no_table_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(FaultError, match="table of fields"):
        sandbox.add_faults(["status"])  # type: ignore[list-item]


def test_the_documentation_names_every_field_and_every_word() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    vocabularies = (FaultyCall, FaultyBody, Wire, Compression, TokenChange)
    for word in (*FaultSpec.model_fields, *(word for words in vocabularies for word in get_args(words))):
        assert f"`{word}`" in text, word


async def _call(acme: IonClient, call: str) -> Got:
    match call:
        case "ping":
            return await acme.ping()
        case "versions":
            return await acme.versions()
        case "acceptedDocuments":
            return await acme.accepted()
        case "token":
            return await acme.token_request()
        case _:
            return await acme.post()
