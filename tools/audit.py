"""Look for known weaknesses: of the relay's own code (bandit), and of its locked packages (pip-audit).

    python tools/audit.py

Both programs get an environment of their own in `.venv/audit`: the product does not depend on them. What
cannot be looked up, since the packages or the list of vulnerabilities cannot be reached, is said, and is no
failure.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv" / "audit"
PROGRAMS = ("bandit==1.9.4", "pip-audit==2.10.1")

# B608 is left to S608 of ruff, the same rule: each such statement is marked there, with a reason.
BANDIT = ("-q", "-r", "relay", "-ll", "-s", "B608")
LOCKS = ("requirements.lock",)
_SECONDS = 300
_FOUND = "vulnerabilit"


def main() -> int:
    """0 unless something was found."""
    if not _install():
        print("NOT AUDITED: bandit and pip-audit cannot be installed from here")
        return 0
    code = subprocess.run([str(PLACE / "bin" / "bandit"), *BANDIT], cwd=ROOT, check=False).returncode
    print("bandit: " + ("nothing of medium or high severity" if code == 0 else "see above"))
    return max(code, *(_audit(lock) for lock in LOCKS))


def _install() -> bool:
    program = PLACE / "bin" / "pip-audit"
    if program.exists():
        return True
    try:
        venv.create(PLACE, with_pip=True, clear=True)
        command = [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", *PROGRAMS]
        ran = subprocess.run(command, timeout=_SECONDS, capture_output=True, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return ran.returncode == 0


def _audit(lock: str) -> int:
    command = [str(PLACE / "bin" / "pip-audit"), "-r", lock, "--require-hashes", "--disable-pip", "--strict"]
    try:
        ran = subprocess.run(command, cwd=ROOT, timeout=_SECONDS, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        print(f"NOT AUDITED: {lock}: the list of vulnerabilities does not answer")
        return 0
    if ran.returncode == 0:
        print(f"pip-audit: {lock}: no known vulnerability")
        return 0
    said = ran.stdout + ran.stderr
    if _FOUND in said and "Found" in said:
        print(said)
        return 1
    last = said.strip().splitlines()[-1:] or ["no answer"]
    print(f"NOT AUDITED: {lock}: the list of vulnerabilities cannot be reached ({last[0][:200]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
