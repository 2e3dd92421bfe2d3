"""`relay enqueue`: enqueue documents from files, standard input or NDJSON, all or none."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from relay.cli import output
from relay.cli.enqueue_store import Given, store
from relay.core.charset import to_utf_8
from relay.core.content import document_problem
from relay.core.model import DEFAULT_TO, DocumentName, Draft, LogicalId, MessageId, OrderingKey, TenantId
from relay.core.validation import Problem, document_name_advice, draft_problems, parameter_problems

if TYPE_CHECKING:
    from relay.config.settings import Settings

_STDIN = "-"
_WIDEST = 4
"""Bytes of a character in the widest character set."""
_USUAL_BYTES = 5_000_000
"""What ION takes by default, apart from a buffer."""
_MAX_PROBLEMS = 20
"""More problems than this are counted, not printed."""

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Files with one document each; - is standard input."),
]
Tenant = Annotated[str | None, typer.Option(help="The tenant to send to.")]
Document = Annotated[str | None, typer.Option(help="Document name, for example Sync.SalesOrder.")]
Id = Annotated[str | None, typer.Option(help="Message id. Default: a new one.")]
Key = Annotated[
    str | None, typer.Option(help="Ordering key: messages with the same key are delivered in order.")
]
To = Annotated[str, typer.Option(help="Logical id of the receiver.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An IMS property, for example variationId=3; repeat for more."),
]
Ndjson = Annotated[
    str | None, typer.Option(metavar="FILE", help="Read one message per line instead; - is standard input.")
]
Create = Annotated[bool, typer.Option("--create", help="Create the outbox' file if there is none.")]
Charset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Convert files from this character set, for example UTF-16, to UTF-8."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def enqueue(
    files: Files = None,
    tenant: Tenant = None,
    document: Document = None,
    message_id: Id = None,
    key: Key = None,
    to: To = DEFAULT_TO,
    parameter: Parameters = None,
    ndjson: Ndjson = None,
    from_charset: Charset = None,
    create: Create = False,
    as_json: Json = False,
) -> None:
    """Enqueue documents; prints one message id per line.

    All or none: if anything is invalid, nothing is stored. With --ndjson each line is an object with
    tenant_id, document_name and payload (or payload_base64), and optionally message_id, to_logical_id,
    ordering_key and parameters.
    """
    from relay.cli.common import load_settings

    settings = load_settings()
    if ndjson is not None:
        _reject_options(files, tenant, document, message_id, key, parameter, from_charset, to)
        given = _read_ndjson(ndjson, settings)
    else:
        like = _template(tenant, document, message_id, key, to, parameter)
        given = _read_files(files or [], like, from_charset, settings)
    if not given:
        output.print_note("relay: there is nothing to enqueue")
        if as_json:
            output.print_json([])
        return
    _advise(given)
    store(given, settings.outbox, create=create, as_json=as_json)


def _advise(given: Sequence[Given]) -> None:
    for name in dict.fromkeys(one.draft.document_name for one in given):
        advice = document_name_advice(name)
        if advice is not None:
            output.print_note(f"note: {name}: {advice}")
    large = sum(len(one.draft.payload) > _USUAL_BYTES for one in given)
    if large:
        documents = "1 document is" if large == 1 else f"{large} documents are"
        output.print_note(f"note: {documents} larger than {_USUAL_BYTES:,} bytes, which ION takes by default")


# --- files ------------------------------------------------------------------------------------------------


def _template(
    tenant: str | None,
    document: str | None,
    message_id: str | None,
    key: str | None,
    to: str,
    parameter: Sequence[str] | None,
) -> Draft:
    """The message without its payload."""
    if tenant is None or document is None:
        output.fail("give --tenant and --document, or --ndjson")
    return Draft(
        TenantId(tenant.upper()),
        DocumentName(document),
        b"",
        None if message_id is None else MessageId(message_id),
        LogicalId(to),
        None if key is None else OrderingKey(key),
        _parameters(parameter or []),
    )


def _parameters(given: Sequence[str]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            output.fail(f"--parameter {text}: use the form NAME=VALUE")
        if name in found:
            output.fail(f"--parameter {name} is given twice; keep one")
        found[name] = _typed(name, value)
    return found


def _typed(name: str, text: str) -> object:
    """The value in the type of the property: text, whole number, or true and false."""
    readings: list[object] = [text]
    if re.fullmatch(r"[0-9]{1,19}", text):
        readings.append(int(text))
    if text in ("true", "false"):
        readings.append(text == "true")
    return next((value for value in readings if not parameter_problems({name: value})), text)


def _read_files(files: Sequence[str], like: Draft, charset: str | None, settings: "Settings") -> list[Given]:
    if not files:
        output.fail("give a file, or - for standard input")
    if like.message_id is not None and len(files) > 1:
        output.fail("--message-id is for a single document")
    if files.count(_STDIN) > 1:
        output.fail("standard input (-) can be read only once")
    common = [
        problem for problem in draft_problems(replace(like, payload=b"-")) if problem.field != "payload"
    ]
    unknown = _unconfigured(like.tenant_id, settings)
    if common or unknown:
        output.fail_with([*common, *unknown])
    given, problems = [], []
    for name in files:
        draft = replace(like, payload=_read(name, _limit(like.tenant_id, settings), charset))
        given.append(Given(_source(name), draft))
        found = [*draft_problems(draft), *_check(draft, settings)]
        problems += [f"{_source(name)}: {problem}" for problem in found]
    if problems:
        output.fail_with([*problems, "nothing was stored"])
    return given


def _read(name: str, limit: int, charset: str | None) -> bytes:
    """One byte more than allowed at most, before it is converted: enough to detect a large one."""
    with _open(name) as file:
        content = file.read((limit + 1) * (1 if charset is None else _WIDEST))
    try:
        return content if charset is None else to_utf_8(content, charset)
    except LookupError:
        output.fail(
            f"--from-charset {charset}: is not a character set; write one such as UTF-16 or ISO-8859-1"
        )
    except UnicodeError as error:
        output.fail(f"{_source(name)}: is not {charset}: {error}; nothing was stored")


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name == _STDIN:
        if sys.stdin.isatty():
            output.print_note("relay: reading from the terminal; end with Ctrl-D")
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        output.fail(f"{name}: cannot be read: {error.strerror or error}; nothing was stored")


def _source(name: str) -> str:
    return "standard input" if name == _STDIN else name


# --- NDJSON -----------------------------------------------------------------------------------------------


def _reject_options(files: list[str] | None, *others: object) -> None:
    *rest, to = others
    if files or any(rest) or to != DEFAULT_TO:
        output.fail("--ndjson cannot be combined with files or other options of a message")


def _read_ndjson(name: str, settings: "Settings") -> list[Given]:
    from relay.cli.ndjson import BadLineError, draft_of, lines

    given: list[Given] = []
    problems: list[str] = []
    omitted = 0
    seen: dict[tuple[str, str], tuple[int, Draft]] = {}
    longest = max((tenant.max_message_bytes for tenant in settings.tenants.values()), default=0)
    with _open(name) as file:
        for number, line in lines(file, longest):
            try:
                draft = draft_of(line, lambda draft: _check(draft, settings))
                _check_duplicate(draft, number, seen)
                given.append(Given(f"line {number}", draft))
            except BadLineError as error:
                room = _MAX_PROBLEMS - len(problems)
                problems += [f"line {number}: {problem}" for problem in error.problems[:room]]
                omitted += max(len(error.problems) - room, 0)
    if problems:
        more = [f"and {omitted} more problems"] if omitted else []
        output.fail_with([*problems, *more, "nothing was stored"])
    return given


def _check_duplicate(draft: Draft, number: int, seen: dict[tuple[str, str], tuple[int, Draft]]) -> None:
    from relay.cli.ndjson import BadLineError

    if draft.message_id is None:
        return
    first, other = seen.setdefault((draft.tenant_id, draft.message_id), (number, draft))
    if other != draft:
        what = f"is also the id of line {first}, with different content"
        raise BadLineError([Problem("message_id", what, "use another id")])


# --- checks against the settings ---------------------------------------------------------------------------


def _check(draft: Draft, settings: "Settings") -> list[Problem]:
    """Whether the tenant is configured here, and the document within the tenant's limit."""
    unconfigured = _unconfigured(draft.tenant_id, settings)
    if unconfigured:
        return unconfigured
    limit = _limit(draft.tenant_id, settings)
    if len(draft.payload) <= limit:
        tenant = settings.tenants[draft.tenant_id]
        problem = document_problem(draft.payload, draft.document_name, tenant.check_documents, tenant.opaque)
        return [] if problem is None else [problem]
    hint = f"send a smaller document, or raise RELAY_TENANTS__{draft.tenant_id}__MAX_MESSAGE_BYTES"
    return [Problem("payload", f"has more than {limit} bytes", hint)]


def _unconfigured(tenant: str, settings: "Settings") -> list[Problem]:
    if tenant in settings.tenants:
        return []
    names = ", ".join(sorted(settings.tenants)) or "none, in the environment and the files of this folder"
    return [Problem("tenant_id", f"{tenant[:80]!r} is not configured", f"configured tenants: {names}")]


def _limit(tenant: str, settings: "Settings") -> int:
    return settings.tenants[tenant].max_message_bytes
