"""Files with secrets that others may read: named with the fix, where there are others who can reach them."""

from pathlib import Path

import pytest

from relay.config import secret_files
from relay.config.settings import Settings, load

NAMES = {
    "RELAY_TENANTS__ACME__IONAPI_FILE": "acme.ionapi",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET_FILE": "consumer",
    "RELAY_TENANTS__GLOBEX__INBOUND__CONSUMER_SECRET_FILE": "inbound",
    "RELAY_OUTBOX__URL_FILE": "url",
    "RELAY_WEB__TOKEN_FILE": "token",
    "RELAY_WEB__READ_TOKEN_FILE": "reader",
}
OTHERS = {
    "RELAY_TENANTS__ACME__LOGICAL_ID": "lid://acme",
    "RELAY_TENANTS__GLOBEX__LOGICAL_ID": "lid://globex",
    "RELAY_TENANTS__GLOBEX__ION_URL": "https://ion.example/service",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_KEY": "k",
    "RELAY_TENANTS__GLOBEX__INBOUND__CONSUMER_KEY": "k",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in NAMES.values():
        (tmp_path / file).write_text("postgresql://h/d")
        (tmp_path / file).chmod(0o640)
    return tmp_path


def settings(folder: Path) -> Settings:
    return load(NAMES | OTHERS, directory=folder)


def exposed(folder: Path) -> list[str]:
    return [problem.field for problem in secret_files.exposed_files(settings(folder), {})]


@pytest.mark.parametrize("name", NAMES)
def test_each_file_that_others_may_read_is_named_with_the_fix(folder: Path, name: str) -> None:
    assert exposed(folder) == []
    file = folder / NAMES[name]
    file.chmod(0o644)
    (problem,) = secret_files.exposed_files(settings(folder), {})
    assert problem.field == name
    assert problem.what == f"names {file}, which every user of this machine may read (mode 0644)"
    assert problem.hint.startswith(f"chmod o= {file}")
    file.chmod(0o640)
    assert exposed(folder) == []


def test_of_a_link_the_target_counts(folder: Path) -> None:
    (folder / "token").unlink()
    (folder / "target").write_text("t")
    (folder / "target").chmod(0o600)
    (folder / "token").symlink_to(folder / "target")
    assert exposed(folder) == []
    (folder / "target").chmod(0o604)
    assert exposed(folder) == ["RELAY_WEB__TOKEN_FILE"]
    (folder / "target").unlink()
    assert exposed(folder) == [], "that it is missing is said where it is read"


def test_what_a_platform_mounted_is_not_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes and Docker mount secrets readable for all, where nobody else is."""
    (folder / "token").chmod(0o444)
    assert secret_files.exposed_files(settings(folder), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == []
    monkeypatch.setattr(secret_files, "_MOUNTED", (folder,))
    assert exposed(folder) == []
