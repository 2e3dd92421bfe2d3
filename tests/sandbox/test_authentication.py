"""Authentication: OAuth 1.0a signatures and OAuth 2 tokens are checked as ION checks them."""

import base64
import time

import pytest
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA1, SIGNATURE_HMAC_SHA512, SIGNATURE_PLAINTEXT

from relay.sandbox import Sandbox, SandboxTenant
from relay.sandbox.signatures import Signatures, read_parameters
from tests.sandbox.client import Got, IonClient, signed

# --- OAuth 1.0a -----------------------------------------------------------------------------------


async def _ping(globex: IonClient, *, to: str | None = None, **oauth: object) -> Got:
    url = f"{globex.base}/ping"
    header = signed(globex.tenant.credentials, "GET", url, **oauth)
    return await globex.call("GET", to or url, headers={"Authorization": header})


async def test_hmac_sha256_and_hmac_sha1_are_accepted(globex: IonClient) -> None:
    assert (await _ping(globex)).status == 200
    assert (await _ping(globex, signature_method=SIGNATURE_HMAC_SHA1)).status == 200


@pytest.mark.parametrize("method", [SIGNATURE_HMAC_SHA512, SIGNATURE_PLAINTEXT])
async def test_other_signature_methods_are_refused(globex: IonClient, method: str) -> None:
    assert (await _ping(globex, signature_method=method)).status == 401


async def test_the_query_is_signed_too(globex: IonClient) -> None:
    url = f"{globex.base}/ping?a=b%20c"
    header = signed(globex.tenant.credentials, "GET", url)
    assert (await globex.call("GET", url, headers={"Authorization": header})).status == 200
    header = signed(globex.tenant.credentials, "GET", url)
    assert (await globex.call("GET", url + "d", headers={"Authorization": header})).status == 401


async def test_a_forged_signature_is_refused_and_the_base_string_is_shown(
    sandbox: Sandbox, globex: IonClient
) -> None:
    other = sandbox.tenant("ACME_PRD").credentials
    url = f"{globex.base}/ping"
    forged = signed(other, "GET", url).replace(other.consumer_key, globex.tenant.credentials.consumer_key)
    answer = await globex.call("GET", url, headers={"Authorization": forged})
    assert answer.status == 401
    assert "GET&http%3A%2F%2F127.0.0.1" in answer.json["errors"][0]
    assert globex.tenant.credentials.consumer_secret not in answer.body.decode()


async def test_a_signature_for_another_path_or_verb_is_refused(globex: IonClient) -> None:
    assert (await _ping(globex, to=f"{globex.base}/versions")).status == 401
    header = signed(globex.tenant.credentials, "POST", f"{globex.base}/ping")
    assert (await globex.call("GET", f"{globex.base}/ping", headers={"Authorization": header})).status == 401


async def test_a_nonce_is_valid_once(globex: IonClient) -> None:
    again = {"nonce": "n1", "timestamp": str(int(time.time()))}
    assert (await _ping(globex, **again)).status == 200
    answer = await _ping(globex, **again)
    assert (answer.status, answer.json["errors"]) == (401, ["oauth_nonce was used before"])
    assert (await _ping(globex, **again | {"nonce": "n2"})).status == 200


@pytest.mark.parametrize(("off", "status"), [(-400, 401), (400, 401), (-200, 200), (200, 200)])
async def test_a_timestamp_may_be_a_little_off(globex: IonClient, off: int, status: int) -> None:
    assert (await _ping(globex, timestamp=str(int(time.time()) + off))).status == status


@pytest.mark.parametrize(
    "header",
    [
        "",
        "OAuth",
        "OAuth nonsense",
        'OAuth oauth_consumer_key="x"',
        "Digest x",
        "Bearer",
        "Bearer unknown",
        'OAuth oauth_consumer_key="k", oauth_consumer_key="k"',
    ],
)
async def test_a_header_without_valid_credentials_is_answered_401(globex: IonClient, header: str) -> None:
    answer = await globex.call("GET", f"{globex.base}/ping", headers={"Authorization": header})
    assert (answer.status, answer.code) == (401, 401)
    assert "WWW-Authenticate" in answer.headers


async def test_an_unknown_consumer_is_answered_401(globex: IonClient) -> None:
    url = f"{globex.base}/ping"
    header = signed(SandboxTenant("OTHER").credentials, "GET", url)
    assert (await globex.call("GET", url, headers={"Authorization": header})).status == 401


async def test_two_legged_oauth_has_no_token(globex: IonClient) -> None:
    assert (await _ping(globex, resource_owner_key="a-token")).status == 401


def test_a_nonce_is_remembered_only_as_long_as_its_timestamp_is_valid() -> None:
    """Otherwise the simulator's memory would grow with every request."""
    signatures, credentials = Signatures(window=10), SandboxTenant("A").credentials
    url = "http://127.0.0.1/ping"
    for now in range(1000, 1100):
        header = signed(credentials, "GET", url, timestamp=str(now), nonce="n")
        found = read_parameters(header, url)
        assert signatures.find_problem("GET", url, found, credentials.consumer_secret, now) is None
    assert len(signatures._nonces) <= 12


# --- OAuth 2 --------------------------------------------------------------------------------------


async def test_both_grants_and_both_ways_of_client_credentials_give_a_token(acme: IonClient) -> None:
    credentials = acme.tenant.credentials
    client = {"client_id": credentials.client_id, "client_secret": credentials.client_secret}
    user = {"username": credentials.username, "password": credentials.password}
    pair = f"{credentials.client_id}:{credentials.client_secret}".encode()
    basic = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    for grant in ({"grant_type": "password"} | user, {"grant_type": "client_credentials"}):
        for answer in (
            await acme.token_request(grant | client),
            await acme.token_request(grant, headers=basic),
        ):
            assert answer.status == 200
            assert answer.json["token_type"] == "Bearer"
            assert answer.json["expires_in"] == 7200
            acme.token = answer.json["access_token"]
            assert (await acme.ping()).status == 200
    assert acme.sandbox.tokens.issued == {"ACME_PRD": 4}


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"password": "wrong"}, 400, "invalid_grant"),
        ({"username": "ünknown"}, 400, "invalid_grant"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"client_secret": None}, 401, "invalid_client"),
    ],
)
async def test_an_invalid_token_request_is_refused_as_the_rfc_says(
    acme: IonClient, change: dict[str, str | None], status: int, error: str
) -> None:
    credentials = acme.tenant.credentials
    right = {
        "grant_type": "password",
        "username": credentials.username,
        "password": credentials.password,
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
    }
    form = {name: value for name, value in (right | change).items() if value is not None}
    answer = await acme.token_request(form)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert acme.sandbox.tokens.issued == {}


async def test_a_token_request_that_is_no_form_or_for_no_tenant_is_refused(acme: IonClient) -> None:
    url = f"{acme.sandbox.url}/ACME_PRD/as/token.oauth2"
    assert (await acme.call("POST", url, json={"grant_type": "password"})).json["error"] == "invalid_request"
    assert (await acme.call("GET", url)).status == 405
    nobody = await acme.call("POST", f"{acme.sandbox.url}/NOBODY/as/token.oauth2", data={"grant_type": "x"})
    assert nobody.status == 401


async def test_a_token_expires(sandbox: Sandbox, acme: IonClient) -> None:
    sandbox.tenant("ACME_PRD").token_seconds = 0.001
    answer = await acme.token_request()
    assert answer.json["expires_in"] == 1, "a lifetime is given in whole seconds, at least 1"
    acme.token = answer.json["access_token"]
    while (refused := await acme.ping()).status == 200:
        pass
    assert refused.json["errors"] == ["the bearer token has expired"]


async def test_expired_and_revoked_tokens_are_answered_401_and_a_new_one_is_fine(
    sandbox: Sandbox, acme: IonClient
) -> None:
    tenant = sandbox.tenant("ACME_PRD")
    assert (await acme.ping()).status == 200
    sandbox.tokens.expire(tenant, time.monotonic())
    assert (await acme.ping()).status == 401
    acme.token = None
    assert (await acme.ping()).status == 200
    sandbox.tokens.revoke(tenant)
    assert (await acme.ping()).json["errors"] == ["the bearer token was revoked"]
    acme.token = None
    assert (await acme.ping()).status == 200


async def test_a_client_can_revoke_its_token(acme: IonClient) -> None:
    await acme.ping()
    file = acme.sandbox.ionapi("ACME_PRD")
    client = {"client_id": str(file["ci"]), "client_secret": str(file["cs"])}
    url = f"{file['pu']}{file['or']}"
    assert (await acme.call("POST", url, data=client)).status == 400
    assert (await acme.call("POST", url, data=client | {"token": "unknown"})).status == 200
    assert (await acme.ping()).status == 200
    assert (await acme.call("POST", url, data=client | {"token": acme.token})).status == 200
    assert (await acme.ping()).status == 401


async def test_another_tenants_credentials_are_forbidden(sandbox: Sandbox, acme: IonClient) -> None:
    header = await acme.authorization("GET", "")
    url = f"{sandbox.url}/GLOBEX_TST/IONSERVICES/api/ion/messaging/service/ping"
    assert (await acme.call("GET", url, headers={"Authorization": header})).status == 403


async def test_each_authentication_works_on_each_base(sandbox: Sandbox, acme: IonClient) -> None:
    bearer = {"Authorization": await acme.authorization("GET", "")}
    direct = f"{sandbox.url}/api/ion/messaging/service/ping"
    assert (await acme.call("GET", direct, headers=bearer)).status == 200
    gateway = f"{acme.base}/ping"
    oauth1 = {"Authorization": signed(acme.tenant.credentials, "GET", gateway)}
    assert (await acme.call("GET", gateway, headers=oauth1)).status == 200


def test_credentials_are_not_shown() -> None:
    tenant = SandboxTenant("ACME_PRD")
    assert tenant.credentials.client_secret not in repr(tenant)
    assert tenant.credentials.client_secret not in str(tenant.as_json())
