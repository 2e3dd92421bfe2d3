"""The control interface over HTTP."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.sandbox import Sandbox, SandboxTenant
from relay.sandbox.connect import environment, export_lines, kept_credentials
from tests.sandbox.client import Got, IonClient


async def _ask(acme: IonClient, method: str, path: str, **request: Any) -> Got:
    return await acme.call(method, f"{acme.sandbox.url}/_sandbox{path}", **request)


async def test_faults_are_added_listed_and_removed(acme: IonClient) -> None:
    made = await _ask(acme, "POST", "/faults", json={"call": "ping", "status": 503, "count": 1})
    fault = {"id": "f1", "call": "ping", "status": 503, "count": 1, "applied": 0, "state": "active"}
    assert (made.status, made.json) == (201, {"faults": [fault]})
    assert (await acme.ping()).status == 503
    listed = await _ask(acme, "GET", "/faults")
    assert listed.json == {"faults": [fault | {"applied": 1, "state": "exhausted"}]}
    await _ask(acme, "POST", "/faults", json=[{"delay": 1}, {"delay": 2, "after": 99}])
    assert [(r["id"], r["state"]) for r in (await _ask(acme, "DELETE", "/faults/f1")).json["faults"]] == [
        ("f2", "active"),
        ("f3", "scheduled"),
    ]
    assert (await _ask(acme, "DELETE", "/faults/f1")).status == 404
    assert (await _ask(acme, "DELETE", "/faults")).json == {"faults": []}


async def test_an_invalid_fault_is_answered_400_with_the_field(acme: IonClient) -> None:
    answer = await _ask(acme, "POST", "/faults", json=[{"status": 503}, {"status": 7}])
    assert (answer.status, answer.json["field"]) == (400, "faults[1].status")
    assert answer.json["error"] == "faults[1].status: must be a whole number from 200 to 599, not 7"
    assert (await _ask(acme, "POST", "/faults", data=b"{")).status == 400
    assert (await _ask(acme, "POST", "/faults", json="x")).status == 400
    assert (await _ask(acme, "GET", "/faults")).json == {"faults": []}


async def test_a_change_without_a_call_happens_when_it_is_added(sandbox: Sandbox, acme: IonClient) -> None:
    await _ask(acme, "POST", "/faults", json={"tenant": "ACME_PRD", "withdraw": "Sync.Shipment"})
    tenants = (await _ask(acme, "GET", "/tenants")).json["tenants"]
    assert [tenant["accepted"] for tenant in tenants] == [["Sync.SalesOrder"], ["Sync.SalesOrder"]]


async def test_the_record_is_listed_in_pages_and_by_tenant_and_document(
    acme: IonClient, globex: IonClient
) -> None:
    for number in range(5):
        await acme.post(f"m{number}", documentName="Sync.Shipment" if number % 2 else "Sync.SalesOrder")
    await globex.post("g")
    await acme.post("m3", documentName="Sync.Shipment")

    async def listed(query: str) -> tuple[list[str], int | None]:
        answer = (await _ask(acme, "GET", f"/record?{query}")).json
        return [message["message_id"] for message in answer["messages"]], answer["next"]

    assert await listed("limit=2") == (["m0", "m1"], 2)
    assert await listed("limit=2&after=2") == (["m2", "m3"], 4)
    assert await listed("limit=2&after=4") == (["m4", "g"], None)
    assert await listed("tenant=globex_tst") == (["g"], None)
    assert await listed("document=Sync.Shipment") == (["m1", "m3"], None)
    assert await listed("sent_twice=1") == (["m3"], None)
    assert (await _ask(acme, "GET", "/record?limit=x")).status == 400


async def test_a_message_is_shown_with_its_parameters_and_its_payload_byte_for_byte(acme: IonClient) -> None:
    payload = bytes(range(256))
    await acme.post("a/b c%", payload, encoding="DEFLATE", variationId=7)
    shown = await _ask(acme, "GET", "/record/ACME_PRD/a%2Fb%20c%25")
    assert (shown.json["message_id"], shown.json["parameters"]["variationId"]) == ("a/b c%", 7)
    assert (await _ask(acme, "GET", "/record/ACME_PRD/a%2Fb%20c%25/payload")).body == payload
    assert (await _ask(acme, "GET", "/record/ACME_PRD/nothing")).status == 404
    assert (await _ask(acme, "GET", "/record/ACME_PRD")).status == 404


async def test_requests_violations_and_the_overview(acme: IonClient) -> None:
    await acme.ping()
    await acme.post("m1")
    requests = (await _ask(acme, "GET", "/requests?tenant=acme_prd&call=post")).json["requests"]
    assert [(request["message_id"], request["status"]) for request in requests] == [("m1", 202)]
    (violation,) = (await _ask(acme, "GET", "/violations")).json["violations"]
    assert (violation["kind"], violation["message_id"]) == ("post-before-initialisation", "m1")
    assert (await _ask(acme, "GET", "/violations?tenant=GLOBEX_TST")).json["violations"] == []
    overview = (await _ask(acme, "GET", "")).json
    acme_prd = overview["tenants"]["ACME_PRD"]
    assert (acme_prd["taken"], acme_prd["violations"], acme_prd["tokens_issued"]) == (1, 1, 1)
    assert {"tenant_id": "ACME_PRD", "call": "post", "status": 202, "count": 1} in overview["counts"]
    assert (await _ask(acme, "DELETE", "/record")).json["taken"] == 0


async def test_other_paths_are_not_found(acme: IonClient) -> None:
    assert (await _ask(acme, "GET", "/nothing")).status == 404
    assert (await _ask(acme, "PUT", "/faults")).status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8481"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:8481"}, 421),
        ({"Host": "a]b"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_page_of_another_site_controls_the_simulator(
    sandbox: Sandbox, method: str, headers: dict[str, str], status: int
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{sandbox.url}/_sandbox/faults", headers=headers) as answer,
    ):
        assert answer.status == status


# --- settings of a relay -----------------------------------------------------------------------


async def test_the_environment_has_the_settings_of_every_tenant(sandbox: Sandbox, tmp_path: Path) -> None:
    variables = sandbox.environment(tmp_path / "new")
    credentials = sandbox.tenant("GLOBEX_TST").credentials
    assert variables == {
        "RELAY_TENANTS__ACME_PRD__LOGICAL_ID": "lid://acme.orders.1",
        "RELAY_TENANTS__ACME_PRD__IONAPI_FILE": str(tmp_path / "new" / "ACME_PRD.ionapi"),
        "RELAY_TENANTS__GLOBEX_TST__LOGICAL_ID": "lid://globex.orders.1",
        "RELAY_TENANTS__GLOBEX_TST__ION_URL": f"{sandbox.url}/api/ion/messaging/service",
        "RELAY_TENANTS__GLOBEX_TST__OAUTH1__CONSUMER_KEY": credentials.consumer_key,
        "RELAY_TENANTS__GLOBEX_TST__OAUTH1__CONSUMER_SECRET": credentials.consumer_secret,
    }
    assert (tmp_path / "new" / "ACME_PRD.ionapi").stat().st_mode & 0o077 == 0


def test_an_ionapi_file_has_a_service_account_or_not(tmp_path: Path) -> None:
    tenants = [SandboxTenant("A"), SandboxTenant("B", service_account=False)]
    environment(tenants, "http://127.0.0.1:1", tmp_path)
    files = [json.loads((tmp_path / f"{name}.ionapi").read_text()) for name in "AB"]
    assert ["saak" in file for file in files] == [True, False]
    assert files[0]["pu"] + files[0]["ot"] == "http://127.0.0.1:1/A/as/token.oauth2"


def test_export_lines_are_quoted_for_a_shell() -> None:
    assert export_lines({"A": "b c'd"}) == "export A='b c'\"'\"'d'\n"


def test_credentials_are_kept_for_the_next_start(tmp_path: Path) -> None:
    first = kept_credentials("acme_prd", tmp_path)
    assert kept_credentials("ACME_PRD", tmp_path) == first
    assert kept_credentials("OTHER", tmp_path) != first
    (tmp_path / "ACME_PRD.credentials.json").write_text("damaged")
    assert kept_credentials("ACME_PRD", tmp_path) != first


@pytest.mark.parametrize("tenant", ["ACME_PRD", "acme_prd"])
def test_two_tenants_with_one_id_are_refused(tenant: str) -> None:
    with pytest.raises(ValueError, match="exists already"):
        Sandbox([SandboxTenant("ACME_PRD"), SandboxTenant(tenant)])
