"""The simulator's Messaging Service: how each call is answered in normal operation.

Checks run in this order: authentication, the tenant header, the message itself (413, 415, 400), the sender
(403), the connection point and its documents (412).
"""

from collections.abc import Mapping

from relay.sandbox.message_checks import ReceivedMessage
from relay.sandbox.record import RequestRecord, TakenMessage
from relay.sandbox.responses import ACCEPTED, Refusal, Response, fail, succeed
from relay.sandbox.routes import Route
from relay.sandbox.signatures import BadHeaderError, Signatures, read_parameters
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens

_MAX_TENANT_ID = 22


class Authenticator:
    """Finds out which tenant sends a request, and checks its credentials."""

    def __init__(self, tenants: Tenants, tokens: Tokens, signatures: Signatures) -> None:
        self._tenants, self._tokens, self._signatures = tenants, tokens, signatures

    def authenticate(
        self, route: Route, url: str, authorization: str | None, now: float, epoch: float
    ) -> tuple[SandboxTenant | None, Refusal | None]:
        """The tenant that a request is of (also where its credentials fail), and why it is refused."""
        named = self._tenants.get(route.tenant_id) if route.tenant_id is not None else None
        scheme, _, value = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                holder, problem = self._tokens.holder(value.strip(), route.call, now)
            case "oauth":
                holder, problem = self._find_signer(route.method, url, authorization or "", epoch)
            case "":
                holder, problem = None, "there is no Authorization header"
            case _:
                holder, problem = None, "Authorization must be Bearer (OAuth 2) or OAuth (OAuth 1.0a)"
        if problem is not None:
            return named or holder, Refusal(401, 401, problem)
        if route.tenant_id is not None and named is not holder:
            return holder, Refusal(403, 403, "the credentials are another tenant's than the path names")
        return holder, None

    def _find_signer(
        self, method: str, url: str, authorization: str, epoch: float
    ) -> tuple[SandboxTenant | None, str | None]:
        try:
            found = read_parameters(authorization, url)
        except BadHeaderError as error:
            return None, str(error)
        tenant = self._tenants.by_consumer(dict(found)["oauth_consumer_key"])
        if tenant is None:
            return None, "the consumer key is not known"
        secret = tenant.credentials.consumer_secret
        return tenant, self._signatures.find_problem(method, url, found, secret, epoch + tenant.clock)


class ImsApi:
    """The calls of IMS v3, for requests that are authenticated."""

    def __init__(self, tenants: Tenants, record: RequestRecord) -> None:
        self._tenants, self._record = tenants, record

    def get(self, route: Route, tenant: SandboxTenant, headers: Mapping[str, str]) -> Response:
        """Respond to ping, versions or acceptedDocuments."""
        if tenant.wrapper:
            return fail(Refusal(404, 404, f"the API suite does not forward {route.call}"))
        accept = headers.get("Accept", "*/*").lower()
        if not any(media in accept for media in ("application/json", "application/*", "*/*")):
            return fail(Refusal(406, 406, "Accept must include application/json"))
        if refusal := _check_tenant(headers.get("X-TenantId", tenant.tenant_id), tenant):
            return fail(refusal)
        if route.call == "ping":
            return succeed({"status": "OK", "code": 200})
        if route.call == "versions":
            return succeed({"supportedVersions": list(tenant.versions)})
        return self._list_accepted(route.logical_id, tenant)

    def _list_accepted(self, logical_id: str, tenant: SandboxTenant) -> Response:
        if logical_id != tenant.logical_id:
            if self._tenants.by_logical_id(logical_id) is not None:
                return fail(Refusal(403, 403, f"{logical_id[:250]} is not tied to these credentials"))
            return fail(Refusal(412, 412, f"no connection point has the logical id {logical_id[:250]}"))
        if refusal := _check_connection_point(tenant):
            return fail(refusal)
        return succeed({"logicalId": tenant.logical_id, "acceptedDocuments": list(tenant.accepted)})

    def check(
        self, tenant: SandboxTenant, headers: Mapping[str, str], message: ReceivedMessage
    ) -> Refusal | None:
        """Why a post is refused, or None."""
        if (encoding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            return Refusal(415, 415, f"Content-Encoding {encoding[:40]} is not understood")
        if refusal := _check_tenant(headers.get("X-TenantId"), tenant) or message.refusal:
            return refusal
        sender, document = message.parameters["fromLogicalId"], message.document_name
        if sender != tenant.logical_id:
            return Refusal(403, 403, f"fromLogicalId {sender} is not tied to these credentials")
        if refusal := _check_connection_point(tenant):
            return refusal
        if document not in tenant.accepted:
            return Refusal(412, 412, f"the connection point does not define the document {document}")
        return None

    def take(
        self, tenant: SandboxTenant, message: ReceivedMessage, epoch: float
    ) -> tuple[Response, TakenMessage]:
        """Take custody of a message that was checked."""
        return ACCEPTED, self._record.take(tenant.tenant_id, message.parameters, message.document, epoch)


def _check_tenant(given: str | None, tenant: SandboxTenant) -> Refusal | None:
    if not given:
        return Refusal(400, 418, "X-TenantId is missing")
    if given.upper() == tenant.tenant_id:
        return None
    if len(given) > _MAX_TENANT_ID:
        return Refusal(400, 448, f"X-TenantId has more than {_MAX_TENANT_ID} characters")
    return Refusal(400, 458, "X-TenantId is not the tenant of these credentials")


def _check_connection_point(tenant: SandboxTenant) -> Refusal | None:
    if tenant.connection_point == "active":
        return None
    return Refusal(412, 412, f"the connection point of {tenant.logical_id} is {tenant.connection_point}")
