"""Secrets and payloads stay where they belong: not in the log, not in the outbox' own tables, in no command's output."""

from pathlib import Path

from relay.sandbox import Credentials, Sandbox, SandboxTenant
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import ORDER, OutboxRow
from tests.support.process import Station

CANARY = "Canary7Q"


def _credentials(tenant: str) -> Credentials:
    return Credentials(
        client_id=f"{tenant}~client",
        client_secret=f"{CANARY}-client-secret-{tenant}",
        username=f"{tenant}#{CANARY}-account",
        password=f"{CANARY}-account-secret-{tenant}",
        consumer_key=f"key-{tenant}",
        consumer_secret=f"{CANARY}-consumer-secret-{tenant}",
    )


async def test_canaries_are_nowhere_to_be_seen(tmp_path: Path) -> None:
    """At level debug, through refusals, crashes of the network, bad settings, checks, parks and lists."""
    tenants = [
        SandboxTenant(ACME, "lid://acme.orders.1", [ORDER], auth="oauth2", credentials=_credentials(ACME)),
        SandboxTenant(
            GLOBEX, "lid://globex.orders.1", [ORDER], auth="oauth1", credentials=_credentials(GLOBEX)
        ),
    ]
    said: list[str] = []
    async with Sandbox(tenants) as sandbox:
        station = Station(tmp_path)
        station.environment |= sandbox.environment(tmp_path)
        station.environment["RELAY_LOG__LEVEL"] = "debug"
        for tenant in tenants:
            secret = (
                tenant.credentials.consumer_secret
                if tenant.auth == "oauth1"
                else tenant.credentials.client_secret
            )
            echo = f"refused: secret={secret}"
            sandbox.add_faults(
                [
                    {"tenant": tenant.tenant_id, "call": "post", "status": 400, "error": echo, "count": 1},
                    {
                        "tenant": tenant.tenant_id,
                        "call": "post",
                        "status": 500,
                        "error": echo,
                        "skip": 1,
                        "count": 1,
                    },
                    {"tenant": tenant.tenant_id, "call": "ping", "cut": "before", "skip": 1, "count": 1},
                    {
                        "tenant": tenant.tenant_id,
                        "call": "versions",
                        "status": 404,
                        "error": echo,
                        "count": 1,
                    },
                ]
            )
        sandbox.faults(
            tenant=ACME, call="token", status=500, error=f"x {tenants[0].credentials.password}", count=1
        )
        station.application.insert_all(
            OutboxRow(tenant.tenant_id, f"<secret>{CANARY} payload {n}</secret>", key=f"k{n}")
            for tenant in tenants
            for n in range(5)
        )
        async with station.relay() as relay:
            await station.until(
                lambda: station.application.states() == {"delivered": 8, "parked": 2}, "8 delivered, 2 parked"
            )
            said += await _commands(station)
        said.append(relay.text)
        assert sandbox.violations == []
    station.environment[f"RELAY_TENANTS__{GLOBEX}__LOGICAL_ID"] = "no logical id"
    station.environment[f"RELAY_TENANTS__{GLOBEX}__OAUTH1__CONSUMER_SECRT"] = f"{CANARY}-misspelt"
    refused = await station.command("run")
    assert refused.code == 2
    said += [refused.out, refused.err]
    tables = [
        station.application.ask(
            "SELECT tenant_id, message_id, parameters, reason, state FROM relay_outbox WHERE state IS NOT NULL"
        ),
        *(
            station.application.ask(f"SELECT * FROM {t}")
            for t in ("relay_tenants", "relay_relays", "relay_history")
        ),
    ]
    said += map(str, tables)

    assert "message.delivered" in relay.text, "nothing was looked at"
    assert "HTTP 400" in str(tables)
    leaks = [text[max(text.find(CANARY) - 200, 0) :][:400] for text in said if CANARY in text]
    assert leaks == []
    assert all(token not in text for text in said for token in _tokens(sandbox))


async def _commands(station: Station) -> list[str]:
    """What every command that reads says, on both streams."""
    parked = station.application.ask("SELECT message_id FROM relay_outbox WHERE state = 'parked' LIMIT 1")
    found = []
    for words in (
        ("status",),
        ("status", "--json"),
        ("check",),
        ("check", "--json"),
        ("messages", "list", "--json"),
        ("messages", "show", parked[0]["message_id"]),
    ):
        done = await station.command(*words)
        assert done.out, done
        found += [done.out, done.err]
    return found


def _tokens(sandbox: Sandbox) -> list[str]:
    """The bearer tokens that the simulator handed out."""
    found = list(sandbox.tokens._grants)
    assert found
    return found
