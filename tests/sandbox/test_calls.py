"""The calls of IMS: their answers in normal operation."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from relay.sandbox import Sandbox, SandboxTenant
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


async def test_versions_and_accepted_documents_follow_the_swagger(sandbox: Sandbox, acme: IonClient) -> None:
    assert (await acme.versions()).json == {"supportedVersions": ["v1", "v2", "v3"]}
    assert (await acme.accepted()).json == {
        "logicalId": "lid://acme.orders.1",
        "acceptedDocuments": ["Sync.SalesOrder", "Sync.Shipment"],
    }
    sandbox.tenant("acme_prd").versions = ("v1",)
    sandbox.tenant("ACME_PRD").withdraw("Sync.Shipment")
    assert (await acme.versions()).json == {"supportedVersions": ["v1"]}
    assert (await acme.accepted()).json["acceptedDocuments"] == ["Sync.SalesOrder"]


@pytest.mark.parametrize(
    "segment",
    ["lid%3A%2F%2Facme.orders.1", "lid%3a%2f%2facme.orders.1", "lid:%2F%2Facme.orders.1"],
)
async def test_a_logical_id_is_one_percent_encoded_segment(acme: IonClient, segment: str) -> None:
    assert (await acme.get(f"/v3/{segment}/acceptedDocuments")).status == 200


@pytest.mark.parametrize(
    "segment",
    ["lid://acme.orders.1", "lid%253A%252F%252Facme.orders.1", "acme.orders.1", "lid%3A%2F/acme.orders.1"],
)
async def test_a_logical_id_in_several_segments_or_encoded_twice_is_not_found(
    acme: IonClient, segment: str
) -> None:
    answer = await acme.get(f"/v3/{segment}/acceptedDocuments")
    assert (answer.status, answer.code) == (404, 404)


async def test_a_logical_id_signed_by_oauth_1_counts_as_it_was_sent(globex: IonClient) -> None:
    for segment in ("lid%3A%2F%2Fglobex.orders.1", "lid%3a%2f%2fglobex.orders.1"):
        assert (await globex.get(f"/v3/{segment}/acceptedDocuments")).status == 200


async def test_the_logical_id_of_another_tenant_is_forbidden_and_an_unknown_one_is_answered_412(
    acme: IonClient,
) -> None:
    assert (await acme.accepted("lid://globex.orders.1")).status == 403
    assert (await acme.accepted("lid://nobody.at.all")).status == 412


@pytest.mark.parametrize("state", ["inactive", "missing"])
async def test_without_an_active_connection_point_documents_and_posts_are_answered_412(
    sandbox: Sandbox, acme: IonClient, state: str
) -> None:
    sandbox.tenant("ACME_PRD").connection_point = state  # type: ignore[assignment]
    assert (await acme.ping()).status == 200
    assert (await acme.accepted()).status == 412
    answer = await acme.post()
    assert (answer.status, answer.code) == (412, 412)
    assert sandbox.messages() == []


async def test_a_document_that_the_connection_point_does_not_define_is_answered_412(
    sandbox: Sandbox, acme: IonClient
) -> None:
    assert (await acme.post(documentName="Sync.Item")).status == 412
    assert (await acme.post(documentName="sync.salesorder")).status == 412, "names are case-sensitive"
    assert sandbox.messages() == []


async def test_a_sender_of_another_tenant_is_forbidden(acme: IonClient) -> None:
    assert (await acme.post(fromLogicalId="lid://globex.orders.1")).status == 403


@pytest.mark.parametrize(
    ("given", "code"),
    [(None, 418), ("A" * 23, 448), ("GLOBEX_TST", 458), ("NOBODY", 458)],
)
async def test_a_post_needs_the_tenant_header(acme: IonClient, given: str | None, code: int) -> None:
    answer = await acme.post(headers={"X-TenantId": given})
    assert (answer.status, answer.code) == (400, code)


async def test_tenant_ids_compare_without_regard_to_case(acme: IonClient) -> None:
    assert (await acme.post(headers={"X-TenantId": "Acme_prd"})).status == 202


async def test_a_get_may_leave_the_tenant_header_out_but_not_name_another(acme: IonClient) -> None:
    assert (await acme.ping()).status == 200
    assert (await acme.get("/ping", {"X-TenantId": "ACME_PRD"})).status == 200
    assert (await acme.get("/ping", {"X-TenantId": "GLOBEX_TST"})).code == 458


async def test_wrong_paths_methods_and_media_types_are_refused(acme: IonClient) -> None:
    headers = {"Authorization": await acme.authorization("GET", acme.base)}
    assert (await acme.get("/v2/multipartMessage")).status == 404
    assert (await acme.get("/v3/multipartMessage")).status == 405
    wrong_verb = await acme.call("POST", f"{acme.base}/ping", headers=headers)
    assert (wrong_verb.status, wrong_verb.headers["Allow"]) == (405, "GET")
    assert (await acme.get("/ping", {"Accept": "text/html"})).status == 406
    assert (await acme.get("/ping", {"Accept": "text/html, application/json;q=0.5"})).status == 200
    assert (await acme.post(headers={"Content-Encoding": "deflate"})).status == 415
    assert (await acme.call("GET", f"{acme.sandbox.url}/elsewhere")).status == 404


async def test_a_request_above_the_limit_is_answered_413_without_being_read_whole() -> None:
    async with (
        Sandbox([SandboxTenant("ACME_PRD")], max_message_bytes=1000) as sandbox,
        IonClient(sandbox, "ACME_PRD") as acme,
    ):
        assert (await acme.post(payload=b"x" * 1000)).status == 202
        assert (await acme.post("m2", payload=b"x" * 1001)).status == 413
        assert (await acme.post("m3", payload=b"x" * 3_000_000)).status == 413
        assert (await acme.post("m4", payload=b"x" * 1001, encoding="DEFLATE")).status == 413
        assert [taken.message_id for taken in sandbox.messages()] == ["m1"]


async def test_a_body_in_chunks_above_the_limit_is_answered_413_too() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    async with (
        Sandbox([SandboxTenant("ACME_PRD")], max_message_bytes=1000) as sandbox,
        IonClient(sandbox, "ACME_PRD") as acme,
    ):
        assert (await acme.post(body=chunks())).status == 413


async def test_expect_100_continue_is_answered(acme: IonClient) -> None:
    url = f"{acme.base}/v3/multipartMessage"
    headers = {"Authorization": await acme.authorization("POST", url), "Expect": "100-continue"}
    assert (await acme.call("POST", url, headers=headers, data=b"x", expect100=True)).code == 418


async def test_requests_of_one_client_are_answered_concurrently_and_on_kept_connections(
    sandbox: Sandbox,
) -> None:
    sandbox.faults(call="ping", delay=3600)
    async with IonClient(sandbox, "ACME_PRD", connections=2) as acme:
        hanging = asyncio.create_task(acme.ping())
        await sandbox.until(lambda: any(r.call == "token" for r in sandbox.requests()))
        for number in range(50):
            assert (await acme.post(f"m{number}")).status == 202
        assert not hanging.done()
        hanging.cancel()
        await asyncio.wait([hanging])


async def test_the_simulator_can_stop_and_start_on_its_port_with_its_record(
    sandbox: Sandbox, acme: IonClient
) -> None:
    await acme.initialise()
    assert (await acme.post("m1")).status == 202
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientError):
        await acme.ping()
    await sandbox.start()
    assert (await acme.ping()).status == 200
    assert (await acme.post("m2")).status == 202
    assert [taken.message_id for taken in sandbox.messages()] == ["m1", "m2"]
    assert sandbox.violations == []
