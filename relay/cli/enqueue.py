"""This file is `relay enqueue`: hand documents over from files, standard input or NDJSON, all or nothing."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from relay.cli import output
from relay.core.model import DEFAULT_TO, DocumentName, Draft, LogicalId, MessageId, OrderingKey, TenantId
from relay.core.validation import Problem, document_name_advice, draft_problems, parameter_problems

if TYPE_CHECKING:
    from relay.config.settings import Settings

_STDIN = "-"
_MOST_SAID = 20
"""So many bad lines are told one by one."""


Files = Annotated[
    list[str] | None, typer.Argument(metavar="[FILE]...", help="One document each; - is standard input.")
]
Tenant = Annotated[str | None, typer.Option(help="The tenant to send to.")]
Document = Annotated[str | None, typer.Option(help="The document's name, e.g. Sync.SalesOrder.")]
Id = Annotated[str | None, typer.Option(help="The message's id; otherwise a new one is made.")]
Key = Annotated[str | None, typer.Option(help="Messages of one key keep their order.")]
To = Annotated[str, typer.Option(help="The logical id it goes to.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An IMS property, e.g. variationId=3; repeat for more."),
]
Ndjson = Annotated[
    str | None, typer.Option(metavar="FILE", help="One message a line instead; - is standard input.")
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
    as_json: Json = False,
) -> None:
    """Hand documents over; prints a message id a line.

    All or nothing: where anything is wrong, nothing is stored. With --ndjson each line is an object with
    tenant_id, document_name and payload (or payload_base64), and, if wanted, message_id, to_logical_id,
    ordering_key and parameters.
    """
    from relay.cli.common import settings

    known = settings()
    if ndjson is not None:
        _alone(files, tenant, document, message_id, key, parameter, to)
        drafts = _from_lines(ndjson, known)
    else:
        like = _pattern(tenant, document, message_id, key, to, parameter)
        drafts = _from_files(files or [], like, known)
    _hand_over(drafts, known, as_json)


def _hand_over(drafts: Sequence[Draft], known: "Settings", as_json: bool) -> None:
    from relay.cli.common import at_outbox

    if not drafts:
        output.note("relay: there was nothing to hand over")
        if as_json:
            output.as_json([])
        return
    _advise(drafts)
    ids = at_outbox(known.outbox, lambda outbox: outbox.add(drafts), create=True)
    if as_json:
        pairs = zip(drafts, ids, strict=True)
        output.as_json(
            [
                {"tenant_id": draft.tenant_id, "document_name": draft.document_name, "message_id": given}
                for draft, given in pairs
            ]
        )
        return
    for given in ids:
        output.line(given)


def _advise(drafts: Sequence[Draft]) -> None:
    for name in dict.fromkeys(draft.document_name for draft in drafts):
        advice = document_name_advice(name)
        if advice is not None:
            output.note(f"note: {name}: {advice}")


# --- files ------------------------------------------------------------------------------------------------


def _pattern(
    tenant: str | None,
    document: str | None,
    message_id: str | None,
    key: str | None,
    to: str,
    parameter: Sequence[str] | None,
) -> Draft:
    """The message but for its payload."""
    if tenant is None or document is None:
        output.give_up("give --tenant and --document, or --ndjson")
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
            output.give_up(f"--parameter {text}: write NAME=VALUE")
        if name in found:
            output.give_up(f"--parameter {name}: is there twice; keep one")
        found[name] = _typed(name, value)
    return found


def _typed(name: str, text: str) -> object:
    """The value in the type that the property has: a text, a whole number, or true and false."""
    readings: list[object] = [text]
    if re.fullmatch(r"[0-9]{1,19}", text):
        readings.append(int(text))
    if text in ("true", "false"):
        readings.append(text == "true")
    return next((value for value in readings if not parameter_problems({name: value})), text)


def _from_files(files: Sequence[str], like: Draft, known: "Settings") -> list[Draft]:
    if not files:
        output.give_up("name a file, or - for standard input")
    if like.message_id is not None and len(files) > 1:
        output.give_up("--message-id is for one document; these are more")
    if files.count(_STDIN) > 1:
        output.give_up("standard input (-) can be read only once")
    whole = [problem for problem in draft_problems(replace(like, payload=b"-")) if problem.field != "payload"]
    unknown = _unconfigured(like.tenant_id, known)
    if whole or unknown:
        output.refuse([*whole, *unknown])
    drafts, problems = [], []
    for name in files:
        draft = replace(like, payload=_read(name, _limit(like.tenant_id, known)))
        drafts.append(draft)
        found = [*draft_problems(draft), *_against(draft, known)]
        problems += [f"{_called(name)}: {problem}" for problem in found]
    if problems:
        output.refuse([*problems, "nothing was stored"])
    return drafts


def _read(name: str, limit: int) -> bytes:
    """One byte more than allowed is enough to know."""
    with _opened(name) as file:
        return file.read(limit + 1)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == _STDIN:
        if sys.stdin.isatty():
            output.note("relay: reading from the terminal; Ctrl-D ends it")
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        output.give_up(f"{name}: cannot be read: {error.strerror or error}; nothing was stored")


def _called(name: str) -> str:
    return "standard input" if name == _STDIN else name


# --- NDJSON -----------------------------------------------------------------------------------------------


def _alone(files: list[str] | None, *others: object) -> None:
    *rest, to = others
    if files or any(rest) or to != DEFAULT_TO:
        output.give_up("--ndjson says everything in its lines; leave the files and the other options out")


def _from_lines(name: str, known: "Settings") -> list[Draft]:
    from relay.cli.ndjson import BadLineError, draft_of, lines

    drafts: list[Draft] = []
    problems: list[str] = []
    beyond = 0
    seen: dict[tuple[str, str], tuple[int, Draft]] = {}
    longest = max((tenant.max_message_bytes for tenant in known.tenants.values()), default=0)
    with _opened(name) as file:
        for number, line in lines(file, longest):
            try:
                draft = draft_of(line, lambda draft: _against(draft, known))
                _same_again(draft, number, seen)
                drafts.append(draft)
            except BadLineError as error:
                room = _MOST_SAID - len(problems)
                problems += [f"line {number}: {problem}" for problem in error.problems[:room]]
                beyond += max(len(error.problems) - room, 0)
    if problems:
        more = [f"and {beyond} problems more"] if beyond else []
        output.refuse([*problems, *more, "nothing was stored"])
    return drafts


def _same_again(draft: Draft, number: int, seen: dict[tuple[str, str], tuple[int, Draft]]) -> None:
    from relay.cli.ndjson import BadLineError

    if draft.message_id is None:
        return
    first, other = seen.setdefault((draft.tenant_id, draft.message_id), (number, draft))
    if other != draft:
        what = f"is that of line {first}, with another content"
        raise BadLineError([Problem("message_id", what, "give it an id of its own")])


# --- what the settings say ----------------------------------------------------------------------------------


def _against(draft: Draft, known: "Settings") -> list[Problem]:
    """A tenant that is not configured here, or a document that is larger than it takes."""
    unconfigured = _unconfigured(draft.tenant_id, known)
    if unconfigured:
        return unconfigured
    limit = _limit(draft.tenant_id, known)
    if len(draft.payload) <= limit:
        return []
    hint = f"send a smaller document, or raise RELAY_TENANTS__{draft.tenant_id}__MAX_MESSAGE_BYTES"
    return [Problem("payload", f"has more than {limit} bytes", hint)]


def _unconfigured(tenant: str, known: "Settings") -> list[Problem]:
    if tenant in known.tenants:
        return []
    names = ", ".join(sorted(known.tenants)) or "none"
    return [Problem("tenant_id", f"{tenant[:80]!r} is not configured", f"configured are: {names}")]


def _limit(tenant: str, known: "Settings") -> int:
    return known.tenants[tenant].max_message_bytes
