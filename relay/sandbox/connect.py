"""Settings that point a relay at the simulator: environment variables and `.ionapi` files."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from relay.sandbox.routes import AUTHORIZE_PATH, REVOKE_PATH, SERVICE, TOKEN_PATH
from relay.sandbox.tenants import Credentials, SandboxTenant


def ionapi(tenant: SandboxTenant, url: str) -> dict[str, object]:
    """The content of a tenant's `.ionapi` file; `url` is the simulator's."""
    credentials = tenant.credentials
    content: dict[str, object] = {
        "ti": tenant.tenant_id,
        "cn": f"sandbox of {tenant.tenant_id}",
        "dt": "12",
        "ci": credentials.client_id,
        "cs": credentials.client_secret,
        "iu": url,
        "pu": f"{url}/{tenant.tenant_id}/as/",
        "oa": AUTHORIZE_PATH,
        "ot": TOKEN_PATH,
        "or": REVOKE_PATH,
        "ev": "S0000000000",
        "v": "1.0",
    }
    if tenant.service_account:
        content |= {"saak": credentials.username, "sask": credentials.password}
    return content


def base_url(tenant: SandboxTenant, url: str) -> str:
    """The base URL of the tenant's Messaging Service, by its `auth`."""
    return f"{url}{SERVICE}" if tenant.auth == "oauth1" else f"{url}/{tenant.tenant_id}/IONSERVICES{SERVICE}"


def environment(tenants: Iterable[SandboxTenant], url: str, directory: Path) -> dict[str, str]:
    """The variables that point a relay at all tenants; writes the `.ionapi` files they name."""
    directory.mkdir(parents=True, exist_ok=True)
    variables: dict[str, str] = {}
    for tenant in tenants:
        prefix = f"RELAY_TENANTS__{tenant.tenant_id}__"
        variables[f"{prefix}LOGICAL_ID"] = tenant.logical_id
        if tenant.auth == "oauth2":
            file = directory / f"{tenant.tenant_id}.ionapi"
            _write_private(file, json.dumps(ionapi(tenant, url), indent=2) + "\n")
            variables[f"{prefix}IONAPI_FILE"] = str(file)
        else:
            variables[f"{prefix}ION_URL"] = base_url(tenant, url)
            variables[f"{prefix}OAUTH1__CONSUMER_KEY"] = tenant.credentials.consumer_key
            variables[f"{prefix}OAUTH1__CONSUMER_SECRET"] = tenant.credentials.consumer_secret
    return variables


def export_lines(variables: Mapping[str, str]) -> str:
    """The variables as `export` lines for a shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def kept_credentials(tenant_id: str, directory: Path) -> Credentials:
    """The credentials that an earlier run left in the directory, so that a relay's settings stay valid.

    Where there are none, or they cannot be read, new ones are written there.
    """
    file = directory / f"{tenant_id.upper()}.credentials.json"
    try:
        return Credentials(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        generated = Credentials.generate(tenant_id.upper())
        directory.mkdir(parents=True, exist_ok=True)
        names = Credentials.__slots__
        _write_private(file, json.dumps({name: getattr(generated, name) for name in names}, indent=2) + "\n")
        return generated


def _write_private(file: Path, text: str) -> None:
    """Write atomically, readable by the owner only."""
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(file)
