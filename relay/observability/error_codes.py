"""Error codes: each links a line of the log to a page of the run book.

A code keeps its meaning for ever: it is never reused and never renumbered. The tens group them: 10x ION's
answers, 11x credentials, 12x messages, 13x and 14x the outbox, 15x the relay itself, 16x its settings and
surroundings, 17x stalled delivery; 158 to 160 are of the outbox too. The pages are
`relay/observability/runbook/RELAY-1xx.md`.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources


@dataclass(frozen=True, slots=True)
class Code:
    """An error to look up; `kinds` of incident and `events` of the log that carry it."""

    code: str
    title: str
    kinds: tuple[str, ...] = ()
    events: tuple[str, ...] = ()


# fmt: off
NOT_ACCEPTED   = Code("RELAY-108", "Documents wait to be accepted by ION", events=("documents.withheld",))
EXPOSED        = Code("RELAY-117", "Others may read a file with secrets", events=("secrets.exposed",))
CERTIFICATE    = Code("RELAY-118", "The certificate of ION ends soon")
PARKED         = Code("RELAY-123", "Messages are parked", events=("message.parked", "messages.parked"))
PAUSED         = Code("RELAY-124", "A tenant is paused", events=("tenant.paused",))
OUTBOX         = Code("RELAY-131", "The outbox cannot be used", kinds=("outbox",), events=("audit.skipped",))
ENDANGERED     = Code("RELAY-148", "The outbox is in a place of risk", events=("outbox.endangered",))
IGNORED        = Code("RELAY-161", "A setting is not used", events=("setting.ignored",))
WRONG_SETTINGS = Code("RELAY-162", "The settings are wrong", events=("settings.refused",))
UNCONFIGURED   = Code("RELAY-163", "Messages wait for an unconfigured tenant", events=("tenant.missed",))
NO_RELAY       = Code("RELAY-173", "No relay is running")

CODES = (
    Code("RELAY-101", "ION asks to wait", kinds=("busy",)),
    Code("RELAY-102", "ION fails", kinds=("broken",)),
    Code("RELAY-103", "ION does not answer", kinds=("silent",)),
    Code("RELAY-104", "The ION URL leads to another service", kinds=("unexpected",)),
    Code("RELAY-105", "ION does not know the tenant or the logical id", kinds=("misconfigured",)),
    Code("RELAY-106", "The connection point is not ready", kinds=("not-ready",)),
    Code("RELAY-107", "This ION does not speak IMS v3", kinds=("no-v3",)),
    NOT_ACCEPTED,
    Code("RELAY-109", "ION lists documents that no message can have", events=("documents.ignored",)),
    Code("RELAY-111", "ION does not take the credentials", kinds=("unauthorised",)),
    Code("RELAY-112", "This client may not send for this logical id", kinds=("forbidden",)),
    Code("RELAY-113", "The token service refuses the credentials", kinds=("token-refused",)),
    Code("RELAY-114", "The token service fails", kinds=("token-unavailable",)),
    Code("RELAY-115", "Tokens are running out"),
    Code("RELAY-116", "Calls to the inbound port are refused", kinds=("inbound",)),
    EXPOSED,
    CERTIFICATE,
    Code("RELAY-119", "Tokens of the page are refused", kinds=("login",)),
    Code("RELAY-121", "ION refuses a message", kinds=("invalid",)),
    Code("RELAY-122", "A message is too large for ION", kinds=("too-large",)),
    PARKED,
    PAUSED,
    Code("RELAY-125", "The remaining messages need an operator", events=("tenant.stuck",)),
    Code("RELAY-127", "A page came instead of ION's answer", kinds=("foreign",)),
    Code("RELAY-128", "A gateway refuses the call", kinds=("gateway",)),
    Code("RELAY-129", "This machine's clock is wrong", kinds=("clock",)),
    OUTBOX,
    Code("RELAY-132", "What was delivered by minute is not recorded", kinds=("activity",)),
    Code("RELAY-135", "Only this message fails", events=("message.failing",)),
    Code("RELAY-138", "Others may create where the outbox is", kinds=("exposed",)),
    Code("RELAY-140", "The outbox refuses a row", kinds=("refused",), events=("retention.hindered",)),
    Code("RELAY-141", "A tenant's lease was lost", events=("tenant.lost",)),
    Code("RELAY-142", "Rows of the outbox hold other messages now", events=("settlements.discarded",)),
    Code("RELAY-143", "The outbox is another one than before", events=("outbox.changed",)),
    Code("RELAY-146", "Two relays use one outbox file", kinds=("shared",)),
    Code("RELAY-147", "The write-ahead log of the outbox grows", kinds=("log-grown",)),
    ENDANGERED,
    Code("RELAY-149", "A backup was put in the place of the outbox", events=("outbox.restored",)),
    Code("RELAY-151", "The relay before this one was killed", events=("relay.recovered",)),
    Code("RELAY-152", "The relay ended before everything was settled", events=("relay.ended",)),
    Code("RELAY-153", "The grace ran out with posts in flight", events=("relay.cut",)),
    Code("RELAY-154", "The time for emptying the outbox is up", events=("relay.gave_up",)),
    Code("RELAY-155", "A component of the relay crashed", events=("component.crashed",)),
    Code("RELAY-156", "The relay's loop is blocked", events=("loop.blocked",)),
    Code("RELAY-157", "A component of the relay is stuck", events=("component.stuck",)),
    Code("RELAY-158", "A new outbox was created", events=("outbox.created",)),
    Code("RELAY-159", "Ids of the outbox are generated twice", kinds=("sequence",)),
    Code("RELAY-160", "The queue of notifications fills up", kinds=("notifications",)),
    IGNORED,
    WRONG_SETTINGS,
    UNCONFIGURED,
    Code("RELAY-164", "The collector takes no traces", kinds=("traces",)),
    Code("RELAY-165", "Lines of the log were dropped", events=("log.dropped",)),
    Code("RELAY-166", "The outbox' clock jumped", events=("clock.jumped",)),
    Code("RELAY-167", "The limit of open files is low", events=("connections.limited",)),
    Code("RELAY-169", "A port of the relay is crowded", events=("web.crowded",)),
    Code("RELAY-171", "A tenant's oldest message has waited too long", events=("tenant.delayed",)),
    Code("RELAY-172", "A relay makes no progress"),
    NO_RELAY,
)
# fmt: on
"""In the order of their numbers; those without kinds and events are used by alerts alone."""

_BY_KIND = {kind: code.code for code in CODES for kind in code.kinds}
_BY_EVENT = {event: code.code for code in CODES for event in code.events}
_BY_CODE = {code.code: code for code in CODES}
_LIKE_DIGITS = str.maketrans("OoIl", "0011")
_NUMBER = re.compile(r"(?:RELAY-?)?(\d{3})", re.ASCII | re.IGNORECASE)


def of_kind(kind: str) -> str | None:
    """The code of a kind of incident."""
    return _BY_KIND.get(kind)


def of_line(event: str, kind: object = None) -> str | None:
    """The code of a warning or an error in the log: of its event, or of the incident's kind."""
    return _BY_EVENT.get(event) or _BY_KIND.get(str(kind))


def find(text: str) -> Code | None:
    """The code that is written as `RELAY-101`, `relay-101` or `101`."""
    number = _NUMBER.fullmatch(text.strip())
    return None if number is None else _BY_CODE.get(f"RELAY-{number[1]}")


def page_of(code: Code) -> str:
    """The code's page of the run book, as Markdown."""
    return resources.files("relay.observability").joinpath("runbook", f"{code.code}.md").read_text("utf-8")


def nearest(text: str) -> list[Code]:
    """The codes that resemble the text: by the name of a kind or an event, or by number."""
    name = text.strip()
    named = _BY_KIND.get(name) or _BY_EVENT.get(name)
    if named is not None:
        return [_BY_CODE[named]]
    number = re.sub(r"^relay-?", "", name, flags=re.IGNORECASE).translate(_LIKE_DIGITS)
    digits = re.sub(r"\D", "", number) if re.search(r"\d", name) else ""
    wanted = f"RELAY-{digits}" if digits else name.lower()
    words = [*_BY_CODE, *_BY_KIND, *_BY_EVENT]
    found = get_close_matches(wanted, words, n=5, cutoff=0.6)
    codes = [_BY_KIND.get(word) or _BY_EVENT.get(word) or word for word in found]
    return [_BY_CODE[code] for code in dict.fromkeys(codes)][:3]
