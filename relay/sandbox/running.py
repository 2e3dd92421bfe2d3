"""The simulator as a process: read faults and tenants, announce its address, serve until a signal."""

import asyncio
import json
import os
import signal
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relay.core.validation import logical_id_problem, tenant_id_problem
from relay.sandbox.certificates import Certificates
from relay.sandbox.connect import export_lines, kept_credentials
from relay.sandbox.fault_spec import FaultError
from relay.sandbox.server import Sandbox
from relay.sandbox.tenants import Auth, SandboxTenant


def read_faults(file: Path) -> list[Mapping[str, Any]]:
    """The faults of a TOML file (`[[faults]]` tables) or of JSON (a list, or an object with `faults`)."""
    try:
        text = file.read_text(encoding="utf-8")
        content: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise FaultError(str(file), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # tomllib, json and utf-8 all raise one
        raise FaultError(
            str(file), f"is not {'JSON' if file.suffix == '.json' else 'TOML'}: {error}"
        ) from error
    if isinstance(content, dict):
        for name in content:
            if name != "faults":
                raise FaultError(str(file), f"has {name}; only faults is allowed")
        content = content.get("faults", [])
    if not isinstance(content, list):
        raise FaultError(str(file), "faults must be a list of tables")
    return content


def read_tenant(text: str, accepted: list[str], directory: Path) -> SandboxTenant:
    """A tenant as `ID[,LOGICAL_ID][,oauth1|oauth2]`; ValueError says what is wrong."""
    tenant_id, *more = text.split(",")
    auth: Auth = "oauth2"
    logical_id = ""
    for item in more:
        if item in {"oauth1", "oauth2"}:
            auth = "oauth1" if item == "oauth1" else "oauth2"
        elif problem := logical_id_problem(item):
            raise ValueError(f"{text}: {problem}; or write oauth1 or oauth2")
        else:
            logical_id = item
    if problem := tenant_id_problem(tenant_id):
        raise ValueError(f"{text}: {problem}")
    credentials = kept_credentials(tenant_id, directory)
    return SandboxTenant(tenant_id, logical_id, accepted, auth, credentials=credentials)


def format_announcement(
    sandbox: Sandbox, directory: Path, certificates: Certificates | None, as_json: bool
) -> str:
    """What is printed once the simulator listens: lines for a shell's `eval`, or one line of JSON."""
    variables = sandbox.environment(directory)
    if certificates is not None:
        variables["RELAY_HTTP__CA_FILE"] = str(certificates.file("ca.crt"))
    if as_json:
        facts = {"url": sandbox.url, "port": sandbox.port, "pid": os.getpid(), "directory": str(directory)}
        files = {} if certificates is None else {"certificates": certificates.as_json()}
        return json.dumps(facts | files | {"environment": variables}) + "\n"
    used = {} if certificates is None else certificates.as_json()
    files_lines = "".join(f"# {name} {file}\n" for name, file in used.items())
    return (
        f"# sandbox listening on {sandbox.url}, control at {sandbox.url}/_sandbox\n"
        f"# credentials in {directory}\n" + files_lines + export_lines(variables)
    )


async def serve(
    sandbox: Sandbox,
    directory: Path,
    announce: Callable[[str], None],
    *,
    certificates: Certificates | None,
    as_json: bool,
    ready: Path | None,
) -> None:
    """Serve until SIGINT or SIGTERM. `announce` prints its address; `ready`: a file for it as JSON."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with sandbox:
        if ready is not None:
            new = ready.with_name(f".{ready.name}.new")
            new.touch(mode=0o600)
            new.write_text(format_announcement(sandbox, directory, certificates, True))
            new.replace(ready)
        announce(format_announcement(sandbox, directory, certificates, as_json))
        await stopping.wait()
