"""Faults that answer as firewalls, gateways and odd services do."""

import json
import time
import zlib
from email.utils import parsedate_to_datetime

import pytest

from relay.sandbox import Sandbox
from tests.sandbox.client import IonClient


@pytest.mark.parametrize(("status", "code"), [(200, 540), (202, 450), (400, 471), (412, 477)])
async def test_a_refusal_in_the_form_of_ims_takes_no_message_whatever_its_status(
    sandbox: Sandbox, acme: IonClient, status: int, code: int
) -> None:
    sandbox.faults(call="post", status=status, code=code, body="fail")
    answer = await acme.post()
    assert (answer.status, answer.json["status"], answer.code) == (status, "FAIL", code)
    assert answer.json["errors"] != ["a fault was injected"], "a known code has its text"
    assert sandbox.messages() == []


async def test_a_refusal_without_a_status_is_a_200_with_an_internal_error(
    sandbox: Sandbox, acme: IonClient
) -> None:
    sandbox.faults(call="post", body="fail")
    answer = await acme.post()
    assert (answer.status, answer.code) == (200, 540)


async def test_a_firewall_answers_a_page_and_takes_no_message(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", body="request-rejected")
    answer = await acme.post()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html")
    assert b"Request Rejected" in answer.body
    assert sandbox.messages() == []


@pytest.mark.parametrize("status", [None, 400])
async def test_a_gateway_answers_in_both_of_its_forms(
    sandbox: Sandbox, acme: IonClient, status: int | None
) -> None:
    given = {} if status is None else {"status": status}
    sandbox.faults(call="post", body="gateway-error", count=1, **given)
    assert (await acme.post()).json == {"error": "Bad Request"}
    sandbox.faults(call="post", body="gateway-fault", error="Spike arrest", count=1, **given)
    answer = await acme.post()
    assert answer.json["fault"]["faultstring"] == "Spike arrest"
    assert answer.status == (status or 200)
    assert sandbox.messages() == []


async def test_a_refusal_can_come_for_a_message_that_was_taken(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="post", body="request-rejected", taken=True)
    assert b"Request Rejected" in (await acme.post()).body
    assert len(sandbox.messages()) == 1


async def test_the_token_service_refuses_with_a_success_a_page_and_a_redirect(
    sandbox: Sandbox, acme: IonClient
) -> None:
    sandbox.faults(call="token", body="fail", count=1)
    answer = await acme.token_request()
    assert (answer.status, answer.json["error"]) == (200, "invalid_grant")
    sandbox.faults(call="token", body="request-rejected", count=1)
    assert b"<title>Request Rejected</title>" in (await acme.token_request()).body
    sandbox.faults(call="token", status=302, count=1)
    answer = await acme.token_request(allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/moved")


# --- compressed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bits"), [("gzip", 31), ("deflate", 15), ("raw-deflate", -15)])
async def test_an_answer_can_be_compressed_though_nobody_asked(
    sandbox: Sandbox, kind: str, bits: int
) -> None:
    async with IonClient(sandbox, "ACME_PRD", auto_decompress=False) as client:
        await client.ping()
        sandbox.faults(compress=kind)
        for answer in (await client.versions(), await client.token_request(), await client.post()):
            assert answer.headers["Content-Encoding"] == kind.removeprefix("raw-")
            assert json.loads(zlib.decompress(answer.body, bits))


async def test_a_huge_body_can_be_small_on_the_wire(sandbox: Sandbox) -> None:
    async with IonClient(sandbox, "ACME_PRD", auto_decompress=False) as client:
        sandbox.faults(call="ping", body="huge", compress="gzip")
        answer = await client.ping()
        assert len(answer.body) < 1_000_000
        assert len(zlib.decompress(answer.body, 31)) == 64 * 1024 * 1024


# --- acceptedDocuments ------------------------------------------------------------------------------


async def test_the_list_can_have_many_names_and_impossible_ones(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(call="acceptedDocuments", body="many-names", count=1)
    assert len((await acme.accepted()).json["acceptedDocuments"]) == 10_002
    sandbox.faults(call="acceptedDocuments", body="impossible-names", count=1)
    names = (await acme.accepted()).json["acceptedDocuments"]
    assert names[:2] == ["Sync.SalesOrder", "Sync.Shipment"]
    assert {"", "Sync.\x00", "x" * 101} < set(names)


async def test_a_refused_list_stays_a_refusal(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(connection_point="inactive")
    sandbox.faults(call="acceptedDocuments", body="many-names")
    assert (await acme.accepted()).code == 412


# --- the tenant's ION ------------------------------------------------------------------------------


async def test_the_clock_of_ion_can_be_an_hour_off(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(tenant="ACME_PRD", clock=-3600)
    sandbox.faults(call="ping", status=503, retry_after=60, retry_after_date=True)
    answer = await acme.ping()
    date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(time.time() - 3600 - date) < 60
    assert parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() - date == 60


async def test_a_clock_that_is_off_refuses_oauth_1_timestamps(sandbox: Sandbox, globex: IonClient) -> None:
    sandbox.faults(tenant="GLOBEX_TST", clock=3600)
    answer = await globex.ping()
    assert answer.status == 401
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() > time.time() + 3000
    sandbox.faults(tenant="GLOBEX_TST", clock=0)
    assert (await globex.ping()).status == 200


async def test_posts_alone_can_refuse_a_token(sandbox: Sandbox, acme: IonClient) -> None:
    await acme.initialise()
    sandbox.faults(tenant="ACME_PRD", tokens="revoke-for-posts")
    await acme.initialise()
    assert (await acme.post()).status == 401
    acme.token = None
    assert (await acme.post()).status == 202, "a new token is not concerned"


async def test_a_wrapper_suite_forwards_posts_only(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.faults(tenant="ACME_PRD", wrapper=True)
    for answer in (await acme.ping(), await acme.versions(), await acme.accepted()):
        assert answer.status == 404
    assert (await acme.post()).status == 202
    assert sandbox.violations == []
    sandbox.faults(tenant="ACME_PRD", wrapper=False)
    assert (await acme.ping()).status == 200
