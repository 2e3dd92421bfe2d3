"""The files with secrets that settings name, and which of them other users of the machine may read."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.config.settings import Settings
from relay.core.validation import Problem

_MOUNTED = (Path("/run/secrets"), Path("/var/run/secrets"), Path("/run/credentials"))
"""Where platforms mount secrets, with rights of their own."""


def exposed_files(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    """Files whose mode lets every user read them, unless a platform mounted them for this process alone."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return []
    found = {}
    for variable, path in _secret_files(settings):
        mode = _mode(path)
        if path not in found and mode & stat.S_IROTH:
            what = f"names {path}, which every user of this machine may read (mode {mode:04o})"
            hint = f"chmod o= {path}, and give it the group of the relay alone"
            found[path] = Problem(variable, what, hint)
    return list(found.values())


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    given = [
        ("RELAY_OUTBOX__URL_FILE", settings.outbox.url_file),
        ("RELAY_WEB__TOKEN_FILE", settings.web.token_file),
        ("RELAY_WEB__READ_TOKEN_FILE", settings.web.read_token_file),
        ("RELAY_HTTP__PROXY_CREDENTIALS_FILE", settings.http.proxy_credentials_file),
    ]
    for name, tenant in settings.tenants.items():
        start = f"RELAY_TENANTS__{name}__"
        given += [
            (f"{start}IONAPI_FILE", tenant.ionapi_file),
            (f"{start}PROXY_CREDENTIALS_FILE", tenant.proxy_credentials_file),
            (f"{start}CLIENT_KEY_FILE", tenant.client_key_file),
            (f"{start}CLIENT_KEY_PASSWORD_FILE", tenant.client_key_password_file),
        ]
        for group, keys in (("OAUTH1", tenant.oauth1), ("INBOUND", tenant.inbound)):
            if keys is not None:
                given.append((f"{start}{group}__CONSUMER_SECRET_FILE", keys.consumer_secret_file))
    yield from ((variable, path) for variable, path in given if path is not None)


def _mode(path: Path) -> int:
    """Of a link, that of its target. What cannot be looked at is reported where it is read."""
    if any(path.is_relative_to(folder) for folder in _MOUNTED):
        return 0
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
