"""What is handed to operators works: the wheel, the container's recipe, the systemd unit, the examples.

There is no container engine in a test run, so the recipe is held by what it says and by doing its steps in a
plain virtual environment. Where a tool is missing the test says so aloud.
"""

import ast
import itertools
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from contextlib import closing
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import relay
from relay.config import settings
from relay.outbox.postgres import database

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "relay.service"
SYSTEMD = shutil.which("systemd-analyze")
EXPOSURE_CEILING = 2.0
GRACE_SECONDS = 25


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the image builds it: with the locked builder, from the files that the engine gets."""
    folder = tmp_path_factory.mktemp("wheel")
    context = folder / "context"
    context.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(ROOT / "relay", context / "relay", ignore=shutil.ignore_patterns("__pycache__"))
    command = "-m pip wheel --quiet --no-deps --no-build-isolation --disable-pip-version-check --wheel-dir"
    subprocess.run([sys.executable, *command.split(), str(folder), str(context)], check=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "relay").rglob("*") if path.is_file())
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert packed == expected
    assert "relay/py.typed" in packed
    assert any(name.endswith(".sql") for name in packed), "the schema travels with the code"


def test_the_wheel_names_the_project_its_command_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (commands,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        headers = HeaderParser().parsestr(archive.read(about).decode())
        assert "relay = relay.cli:main" in archive.read(commands).decode()
    assert (headers["Name"], headers["Version"]) == ("ion-relay", relay.__version__)
    assert (headers["Requires-Python"], headers["License-Expression"]) == (">=3.11", "Apache-2.0")


def locked(name: str) -> set[str]:
    """Normalised names of the packages that a lock file pins."""
    return {
        normal(found)
        for found in re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE)
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def runtime(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the packages of requirements.lock, and no others; its Python."""
    folder = tmp_path_factory.mktemp("runtime")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in locked("requirements.lock"):
        for entry in installed(name):
            link = site / entry.name
            if not link.exists():
                link.symlink_to(entry)
    python = folder / "bin" / "python"
    command = f"-m pip --python {python} install --quiet --no-deps --no-index --disable-pip-version-check"
    subprocess.run([sys.executable, *shlex.split(command), str(wheel)], check=True, timeout=120)
    return python


def installed(name: str) -> Iterator[Path]:
    """The top-level files and folders of an installed package; none where it is for another platform."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return
    for first in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(metadata.distribution(name).locate_file(first)))


def test_the_command_runs_with_the_locked_runtime_packages_alone(runtime: Path) -> None:
    relay_command = runtime.with_name("relay")
    for arguments in (["--version"], ["--help"], ["run", "--help"], ["outbox", "schema"]):
        ran = subprocess.run(
            [relay_command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=runtime.parent,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip(), arguments
    version = subprocess.run(
        [relay_command, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert relay.__version__ in version.stdout


def test_every_module_imports_without_the_tools_of_development(runtime: Path) -> None:
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / "relay").rglob("*.py"))
    modules = [str(path.with_suffix("")).replace("/", ".").removesuffix(".__init__") for path in sources]
    script = "; ".join(f"import {module}" for module in modules if not module.endswith("__main__"))
    ran = subprocess.run([runtime, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_the_code_imports_is_what_the_project_says_it_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {normal(re.split(r"[<>=;\[ ]", need, maxsplit=1)[0]) for need in needs}
    imported: set[str] = set()
    for path in (ROOT / "relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
    shared = {f"opentelemetry-{part}" for part in ("sdk", "exporter-otlp-proto-http")}
    brought = {name for name in shared if any(f"{normal(one)}-".startswith(f"{name}-") for one in imported)}
    imported = {name.split(".")[0] for name in imported}
    called = {"markdown_it": "markdown-it-py"}
    outside = imported - sys.stdlib_module_names - {"relay"}
    foreign = {normal(called.get(name, name)) for name in outside} | brought
    brought_along = {
        "pydantic",
        "pydantic-core",
        "dotenv",
        "yarl",
        "multidict",
        "markupsafe",
        "click",
        "opentelemetry",
    }  # parts of the declared
    assert foreign - brought_along <= declared
    assert declared - foreign <= {"uvloop", "rich"}, "declared and never imported"


# --- locks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n?", "", (ROOT / name).read_text(), flags=re.MULTILINE))
    pinned = [entry for entry in entries if entry.strip()]
    assert len(pinned) == len(locked(name)) > 3
    for entry in pinned:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_locks_agree_with_each_other_and_with_what_is_installed() -> None:
    def pins(name: str) -> dict[str, str]:
        found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
        return {normal(package): version for package, version in found}

    everything = pins("requirements-dev.lock")
    for name in ("requirements.lock", "requirements-build.lock"):
        assert pins(name).items() <= everything.items(), name
    here = {normal(found.name): found.version for found in metadata.distributions()}
    assert {name: version for name, version in here.items() if everything.get(name, version) != version} == {}


# --- the image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: word, rest."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in lines]


def test_the_image_runs_the_relay_as_nobody_special() -> None:
    words = [word for word, _ in instructions()]
    last_stage = instructions()[len(words) - words[::-1].index("FROM") :]
    found = dict(last_stage)
    assert found["USER"] == "10001:10001"
    assert found["ENTRYPOINT"] == '["relay"]'
    assert found["CMD"] == '["run"]'
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert found["VOLUME"] == "/data"
    assert "RELAY_OUTBOX__URL=sqlite:////data/relay.db" in found["ENV"]
    assert found["HEALTHCHECK"].endswith('CMD ["relay", "status", "--here"]')
    assert found["COPY"].startswith("--from=builder "), "only what was built, no source, no build tool"


def test_whatever_the_image_installs_is_pinned_by_hash_or_is_the_relay() -> None:
    installs = [
        part
        for word, rest in instructions()
        if word == "RUN"
        for part in rest.split("&&")
        if "install" in part and "pip" in part
    ]
    assert len(installs) == 3
    for part in installs:
        assert "--require-hashes -r requirements" in part or "--no-deps --no-index" in part, part


def test_what_the_image_copies_exists_and_reaches_the_engine() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert copied == allowed
    for name in copied:
        assert (ROOT / name).exists(), name


# --- systemd --------------------------------------------------------------------------------------

needs_systemd = pytest.mark.skipif(
    SYSTEMD is None,
    reason="NOT CHECKED: systemd-analyze is not installed, so nobody has verified relay.service",
)


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_waits_for_readiness_watches_and_leaves_the_grace() -> None:
    said = unit()
    assert said["Type"] == ["notify"]
    assert said["ExecStart"] == ["/opt/ion-relay/bin/relay run"]
    assert said["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(said["WatchdogSec"][0]) >= 30
    assert GRACE_SECONDS < int(said["TimeoutStopSec"][0]) <= GRACE_SECONDS + 15
    assert said["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize(("umask", "mode"), [("0007", 0o660), ("0022", 0o640), ("0077", 0o600)])
def test_an_outbox_is_for_its_owner_and_its_group_as_the_umask_admits(
    tmp_path: Path, umask: str, mode: int
) -> None:
    """Under that of the unit applications of the group may write it; others may never read it."""
    assert unit()["UMask"] == ["0007"]
    for _ in range(2):
        made = [sys.executable, "-m", "relay", "outbox", "upgrade"]
        environment = {"RELAY_OUTBOX__URL": f"sqlite:///{tmp_path}/relay.db", "PYTHONPATH": str(ROOT)}
        subprocess.run(made, cwd=tmp_path, env=environment, check=True, umask=int(umask, 8), timeout=60)
    assert (tmp_path / "relay.db").stat().st_mode & 0o777 == mode
    with closing(sqlite3.connect(tmp_path / "relay.db")) as connection, connection:
        connection.execute("UPDATE relay_tenants SET reason = 'x'")
        for file in tmp_path.glob("relay.db-*"):
            assert file.stat().st_mode & 0o777 == mode


def test_credentials_are_not_the_outbox_groups() -> None:
    said = unit()
    assert said["Group"] == ["ion-outbox"]
    assert said["SupplementaryGroups"] == ["ion-relay"]
    text = (ROOT / "deploy" / "README.md").read_text()
    assert "install -m 0640 -g ion-relay relay.env acme.ionapi /etc/ion-relay/" in text
    assert "join the group `ion-outbox`" in text


@needs_systemd
@pytest.mark.parametrize("name", ["relay.service", "relay@north.service"])
def test_systemd_has_nothing_to_say_about_the_unit(name: str, tmp_path: Path) -> None:
    assert SYSTEMD is not None
    installed_as = tmp_path / name
    installed_as.write_text(UNIT.read_text().replace("/opt/ion-relay/bin/relay", "/bin/true"))
    ran = subprocess.run(
        [SYSTEMD, "verify", installed_as], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@needs_systemd
def test_systemd_would_find_fault_with_a_broken_unit(tmp_path: Path) -> None:
    assert SYSTEMD is not None
    broken = tmp_path / "relay.service"
    broken.write_text(UNIT.read_text().replace("WatchdogSec=60", "WatchdogSec=soon"))
    ran = subprocess.run([SYSTEMD, "verify", broken], capture_output=True, text=True, timeout=60, check=False)
    assert "Failed to parse" in ran.stdout + ran.stderr


@needs_systemd
def test_the_exposure_of_the_service_is_low() -> None:
    assert SYSTEMD is not None
    ran = subprocess.run(
        [SYSTEMD, "security", "--no-pager", "--offline=true", UNIT],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for relay\.service: ([0-9.]+)", ran.stdout)
    assert found is not None, ran.stdout + ran.stderr
    assert float(found[1]) <= EXPOSURE_CEILING


# --- examples -------------------------------------------------------------------------------------


def test_the_compose_example_is_a_sidecar_on_the_applications_volume() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    sidecar, application = compose["services"]["relay"], compose["services"]["application"]
    assert sidecar["volumes"] == application["volumes"] == ["outbox:/data"]
    assert set(compose["volumes"]) == {"outbox"}
    assert int(sidecar["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS
    assert sidecar["secrets"][0]["source"] in compose["secrets"]
    assert sidecar["environment"]["RELAY_TENANTS__ACME_PRD__IONAPI_FILE"] == "/run/secrets/acme.ionapi"


def test_the_kubernetes_example_is_a_sidecar_on_the_pods_own_volume() -> None:
    manifest: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = manifest["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert manifest["kind"] == "StatefulSet"
    assert sidecar["restartPolicy"] == "Always"
    assert pod["terminationGracePeriodSeconds"] > GRACE_SECONDS
    assert pod["securityContext"]["fsGroup"] == 10001
    assert sidecar["livenessProbe"]["httpGet"] == {"path": "/livez", "port": 8480}
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/readyz", "port": 8480}
    assert_guarded(sidecar)
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in manifest["spec"]["volumeClaimTemplates"]}
    for container in [sidecar, *pod["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert {"name": "outbox", "mountPath": "/data"} in container["volumeMounts"]


def assert_guarded(container: dict[str, Any]) -> None:
    """What listens on the pod's address has a token."""
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given["RELAY_WEB__LISTEN"] == "0.0.0.0:8480"
    assert given["RELAY_WEB__TOKEN_FILE"].startswith("/run/secrets/")


REPLICAS = ROOT / "deploy" / "replicas"


def replicas_manifests() -> dict[str, dict[str, Any]]:
    """The Kubernetes example's objects, by kind."""
    found = yaml.safe_load_all((REPLICAS / "kubernetes.yaml").read_text())
    return {manifest["kind"]: manifest for manifest in found}


def test_the_replicas_in_compose_keep_nothing_and_read_secrets_from_files() -> None:
    compose: dict[str, Any] = yaml.safe_load((REPLICAS / "compose.yaml").read_text())
    relay_service = compose["services"]["relay"]
    assert relay_service["deploy"]["replicas"] > 1
    assert int(relay_service["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS
    assert relay_service["depends_on"]["upgrade"]["condition"] == "service_completed_successfully"
    assert "volumes" not in compose
    for service in compose["services"].values():
        targets = {
            f"/run/secrets/{secret if isinstance(secret, str) else secret['target']}"
            for secret in service["secrets"]
        }
        assert not any("://" in value and "@" in value for value in service["environment"].values())
        files = {value for name, value in service["environment"].items() if name.endswith("_FILE")}
        assert files == targets, "each file that is named is there, and no secret that nobody reads"


def test_a_rolling_update_begins_a_new_relay_before_an_old_one_ends() -> None:
    deployment = replicas_manifests()["Deployment"]["spec"]
    assert deployment["replicas"] > 1
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert deployment["minReadySeconds"] >= settings.Settings().lease_seconds
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > GRACE_SECONDS
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8480}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": 8480}
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": 8480}, "it waits for its outbox"
    assert_guarded(container)
    budget = replicas_manifests()["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = deployment["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"] == deployment["selector"]["matchLabels"] == labels


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_the_replicas_in_kubernetes_read_secrets_from_files_that_are_mounted(kind: str) -> None:
    pod = replicas_manifests()[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert all("secret" in volume for volume in volumes.values()), "nothing is kept"
    files = [variable["value"] for variable in container["env"] if variable["name"].endswith("_FILE")]
    assert files
    assert all(str(Path(file).parent) in mounts for file in files)


def test_the_most_connections_of_a_relay_are_those_that_the_arithmetic_counts() -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    found = re.search(r"([0-9]+) connections at most: ([0-9]+) for work and 1 that listens", text)
    assert found is not None
    assert (int(found[1]), int(found[2])) == (database.CONNECTIONS + 1, database.CONNECTIONS)
