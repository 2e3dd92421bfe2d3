"""This file is the Messaging Service of the simulator: what each call is answered in normal operation.

Checks run in this order: authentication, the tenant header, the message itself (413, 415, 400), the sender
(403), the connection point and its documents (412).
"""

from collections.abc import Mapping

from relay.sandbox.message_checks import ReceivedMessage
from relay.sandbox.record import Record, Taken
from relay.sandbox.responses import ACCEPTED, Refusal, Reply, fail, ok
from relay.sandbox.routes import Route
from relay.sandbox.signatures import BadHeaderError, Signatures, parameters
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens

_LONGEST_TENANT_ID = 22


class Gatekeeper:
    """Finds out whose request it is, and whether it proves it."""

    def __init__(self, tenants: Tenants, tokens: Tokens, signatures: Signatures) -> None:
        self._tenants, self._tokens, self._signatures = tenants, tokens, signatures

    def principal(
        self, route: Route, url: str, authorization: str | None, now: float, epoch: float
    ) -> tuple[SandboxTenant | None, Refusal | None]:
        """The tenant that a request speaks for (also where it fails to prove it), and why it is refused."""
        named = self._tenants.get(route.tenant_id) if route.tenant_id is not None else None
        scheme, _, value = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                holder, wrong = self._tokens.holder(value.strip(), now)
            case "oauth":
                holder, wrong = self._signer(route.method, url, authorization or "", epoch)
            case "":
                holder, wrong = None, "there is no Authorization header"
            case _:
                holder, wrong = None, "Authorization must be Bearer (OAuth 2) or OAuth (OAuth 1.0a)"
        if wrong is not None:
            return named or holder, Refusal(401, 401, wrong)
        if route.tenant_id is not None and named is not holder:
            return holder, Refusal(403, 403, "the credentials are another tenant's than the path names")
        return holder, None

    def _signer(
        self, method: str, url: str, authorization: str, epoch: float
    ) -> tuple[SandboxTenant | None, str | None]:
        try:
            found = parameters(authorization, url)
        except BadHeaderError as error:
            return None, str(error)
        tenant = self._tenants.by_consumer(dict(found)["oauth_consumer_key"])
        if tenant is None:
            return None, "the consumer key is not known"
        secret = tenant.credentials.consumer_secret
        return tenant, self._signatures.problem(method, url, found, secret, epoch)


class ImsApi:
    """The calls of IMS v3, for requests whose principal is known."""

    def __init__(self, tenants: Tenants, record: Record) -> None:
        self._tenants, self._record = tenants, record

    def get(self, route: Route, tenant: SandboxTenant, headers: Mapping[str, str]) -> Reply:
        """Answer ping, versions or acceptedDocuments."""
        accept = headers.get("Accept", "*/*").lower()
        if not any(media in accept for media in ("application/json", "application/*", "*/*")):
            return fail(Refusal(406, 406, "Accept must let application/json pass"))
        if wrong := _wrong_tenant(headers.get("X-TenantId", tenant.tenant_id), tenant):
            return fail(wrong)
        if route.call == "ping":
            return ok({"status": "OK", "code": 200})
        if route.call == "versions":
            return ok({"supportedVersions": list(tenant.versions)})
        return self._accepted(route.logical_id, tenant)

    def _accepted(self, logical_id: str, tenant: SandboxTenant) -> Reply:
        if logical_id != tenant.logical_id:
            if self._tenants.by_logical_id(logical_id) is not None:
                return fail(Refusal(403, 403, f"{logical_id[:250]} is not tied to these credentials"))
            return fail(Refusal(412, 412, f"no connection point has the logical id {logical_id[:250]}"))
        if wrong := _closed(tenant):
            return fail(wrong)
        return ok({"logicalId": tenant.logical_id, "acceptedDocuments": list(tenant.accepted)})

    def check(
        self, tenant: SandboxTenant, headers: Mapping[str, str], parcel: ReceivedMessage
    ) -> Refusal | None:
        """Why a post is refused, or None."""
        if (encoding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            return Refusal(415, 415, f"Content-Encoding {encoding[:40]} is not understood")
        if wrong := _wrong_tenant(headers.get("X-TenantId"), tenant) or parcel.refusal:
            return wrong
        sender, document = parcel.parameters["fromLogicalId"], parcel.document_name
        if sender != tenant.logical_id:
            return Refusal(403, 403, f"fromLogicalId {sender} is not tied to these credentials")
        if wrong := _closed(tenant):
            return wrong
        if document not in tenant.accepted:
            return Refusal(412, 412, f"the connection point does not define the document {document}")
        return None

    def take(self, tenant: SandboxTenant, parcel: ReceivedMessage, epoch: float) -> tuple[Reply, Taken]:
        """Take custody of a message that was checked."""
        return ACCEPTED, self._record.take(tenant.tenant_id, parcel.parameters, parcel.document, epoch)


def _wrong_tenant(given: str | None, tenant: SandboxTenant) -> Refusal | None:
    if not given:
        return Refusal(400, 418, "X-TenantId is missing")
    if given.upper() == tenant.tenant_id:
        return None
    if len(given) > _LONGEST_TENANT_ID:
        return Refusal(400, 448, f"X-TenantId has more than {_LONGEST_TENANT_ID} characters")
    return Refusal(400, 458, "X-TenantId is not the tenant of these credentials")


def _closed(tenant: SandboxTenant) -> Refusal | None:
    if tenant.connection_point == "active":
        return None
    return Refusal(412, 412, f"the connection point of {tenant.logical_id} is {tenant.connection_point}")
