"""Run a step of the check on every supported Python that this machine has: `make test-pythons`.

    python tools/pythons.py [--step STEP] [VERSION…]

Without a version it takes each Python from 3.11 on that is on the PATH or among pyenv's versions, one of each
minor version. Each has a virtual environment of its own, `.venvs/VERSION`, with the locked packages. The step
is `tests`, the whole test suite, unless another is named, such as `unit`. Prints a line a version; ends with
1 if the step failed on one, or if a version that was asked for was not found.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venvs"
OLDEST = (3, 11)
_VERSION_OF = "import sys; print('.'.join(map(str, sys.version_info[:3])))"


def find_pythons() -> dict[str, Path]:
    """Each supported minor version, such as `3.12`, with the interpreter of its newest patch release."""
    found: dict[tuple[int, int], tuple[int, Path]] = {}
    for path in _candidates():
        version = _version_of(path)
        if (
            version is not None
            and version[:2] >= OLDEST
            and (version[2], path) > found.get(version[:2], (-1, path))
        ):
            found[version[:2]] = (version[2], path)
    return {f"{major}.{minor}": path for (major, minor), (_, path) in sorted(found.items())}


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield from (
            path for path in Path(folder).glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)
        )
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from pyenv.glob("versions/*/bin/python3")


def _version_of(python: Path) -> tuple[int, int, int] | None:
    """What it reports; None where it does not run, as pyenv's shim of a version that is not selected."""
    try:
        ran = subprocess.run(
            [python, "-c", _VERSION_OF], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", ran.stdout.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def prepare(version: str, python: Path) -> Path:
    """Build the version's environment unless it is there and of the same lock; its interpreter."""
    place = ENVIRONMENTS / version
    inside, ready = place / "bin" / "python", place / "ready"
    lock = ROOT / "requirements-dev.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not ready.exists() or ready.read_text() != digest:
        print(f"Building {place.relative_to(ROOT)} with {python}", flush=True)
        pip: list[str | Path] = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([python, "-m", "venv", "--clear", place], check=True)
        subprocess.run([*pip, "--require-hashes", "-r", lock], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT], check=True)
        ready.write_text(digest)
    return inside


def run(version: str, python: Path, step: str) -> str:
    """Run the step on this version; what became of it, in a line."""
    started = time.monotonic()
    try:
        inside = prepare(version, python)
    except subprocess.CalledProcessError as error:
        return f"{version}: FAILED, its environment could not be built: {error}"
    print(f"\n=== Python {version}: {step}", flush=True)
    ran = subprocess.run([inside, ROOT / "tools" / "check.py", step], cwd=ROOT, check=False)
    result = "passed" if ran.returncode == 0 else "FAILED"
    return f"{version}: {result} {step} in {time.monotonic() - started:.0f} s"


def main() -> int:
    """Run the step on each version, then print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "versions", nargs="*", metavar="VERSION", help="such as 3.12; all that are found by default"
    )
    parser.add_argument("--step", default="tests", help="a step of tools/check.py")
    options = parser.parse_args()
    pythons = find_pythons()
    lines = []
    for version in options.versions or pythons:
        if version in pythons:
            lines.append(run(version, pythons[version], options.step))
        else:
            lines.append(f"{version}: FAILED, no Python {version} on the PATH or among pyenv's versions")
    print("\n" + "\n".join(lines))
    return 1 if any("FAILED" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
