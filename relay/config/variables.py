"""The relay's own variables, in the environment and in a `.env` file, as they are written there.

No problem's text ever contains a value: it may be a secret.
"""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from relay.core.validation import Problem
from relay.observability.regular_file import read_regular_text

PREFIX = "RELAY_"
DOTENV = ".env"


def own(environ: Mapping[str, str | None]) -> dict[str, str]:
    """The relay's own variables that have a value, without those of Kubernetes for a service "relay"."""
    return {
        name: text for name, text in environ.items() if text and _is_own(name.upper()) and name.isprintable()
    }


def _is_own(name: str) -> bool:
    injected = name in ("RELAY_PORT", "RELAY_SERVICE") or name.startswith(("RELAY_PORT_", "RELAY_SERVICE_"))
    return name.startswith(PREFIX) and not injected


def read_dotenv(path: Path) -> tuple[dict[str, str], list[Problem], list[Problem]]:
    """The variables of a `.env` file, not expanded; none where there is no file.

    Lines that cannot be read are problems where they name one of the relay's variables; the others may be of
    another program, and are returned separately.
    """
    if is_absent(path):
        return {}, [], []
    try:
        lines = list(parse_stream(StringIO(read_regular_text(path))))
    except (OSError, ValueError) as error:
        return {}, [unreadable(path, error)], []
    lost: list[Problem] = []
    of_others: list[Problem] = []
    for line in lines:
        if line.error:
            (lost if PREFIX in line.original.string.upper() else of_others).append(_unreadable_line(line))
    return own({line.key: line.value for line in lines if line.key is not None}), lost, of_others


def _unreadable_line(line: Binding) -> Problem:
    """Its text is not shown: it may be a secret."""
    text = line.original.string
    blank_lines = text[: -len(text.lstrip())].count("\n")
    where = f"{DOTENV}: line {line.original.line + blank_lines}"
    hint = "write NAME=VALUE, close every quote, and begin a comment with #"
    return Problem(where, "cannot be read, and is not used", hint)


def unquoted(environment: dict[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The variables without what a file of variables left around their values, and each as a problem."""
    problems: list[Problem] = []
    clean: dict[str, str] = {}
    for name, text in environment.items():
        bare = text.rstrip("\r")
        if bare != text:
            what = "ends with a carriage return (\\r)"
            hint = "the file that sets it has the line ends of Windows; convert it: sed -i 's/\\r$//' FILE"
            problems.append(Problem(name, what, hint))
        if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
            hint = "remove them: a file of variables (docker --env-file) takes quotes as part of the value"
            if name.upper().endswith("_SECRET"):
                hint += f"; if they belong to the secret, write it into a file and set {name}_FILE"
            problems.append(Problem(name, "has quotes around its value", hint))
            bare = bare[1:-1]
        clean[name] = bare
    return clean, problems


def is_absent(path: Path) -> bool:
    """Whether the working directory has no such file: a directory (Python's `venv .env`) is none either."""
    try:
        return path.is_dir() or not path.exists()
    except OSError:  # a folder that may not be searched, which `_working_directory_problem` reports
        return True


def unreadable(path: Path, error: OSError | ValueError) -> Problem:
    """A text file cannot be read."""
    return Problem(str(path), f"cannot be read ({reason(error)})", "make it a readable text file in UTF-8")


def reason(error: OSError | ValueError) -> str:
    """Why a text file cannot be read, in short."""
    return (error.strerror or "error") if isinstance(error, OSError) else "it is not UTF-8"


def case_problem(name: str) -> Problem:
    """Two spellings of one name: it is undefined which one counts."""
    return Problem(name, "is set twice, once in another case", "keep one spelling")


def case_problems(variables: Mapping[str, str]) -> list[Problem]:
    """Variables, or tenants in them, that differ by case only."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for name in variables:
        spelled = "__".join(name.split("__")[:2]) if name.upper().startswith("RELAY_TENANTS__") else name
        if first.setdefault(spelled.upper(), spelled) != spelled:
            problems.append(case_problem(spelled))
    return problems
