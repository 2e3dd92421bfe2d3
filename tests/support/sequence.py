"""A notation for the requests that ION received: `ping versions accepted post:503 ~1 ping`.

A word is a call, with the status it was answered with unless that is the fair one (`post:503`; 0: no answer).
`~3` is a pause of at least the third retry delay (with the least jitter), `~2s` one of at least two seconds.
"""

from collections.abc import Iterable, Sequence

from relay.core.retry import Schedule
from relay.sandbox import Request

_NAMES = {"acceptedDocuments": "accepted"}
_FAIR = {"ping": 200, "versions": 200, "accepted": 200, "token": 200, "post": 202}
_SLACK = 0.01
"""Seconds by which two processes' views of an instant may differ."""

OPENING = "ping versions accepted"


def said(requests: Iterable[Request]) -> str:
    """The requests in those words, without pauses."""
    words = []
    for request in requests:
        name = _NAMES.get(request.call, request.call)
        words.append(name if _FAIR.get(name) == request.status else f"{name}:{request.status}")
    return " ".join(words)


def calls(sentence: str) -> str:
    """The sentence without its pauses."""
    return " ".join(word for word in sentence.split() if not word.startswith("~"))


def short_pauses(sentence: str, requests: Sequence[Request], schedule: Schedule) -> list[str]:
    """The pauses of the sentence that were shorter than promised; the requests are those of the sentence."""
    found, at = [], 0
    for word in sentence.split():
        if not word.startswith("~"):
            at += 1
            continue
        promised = float(word[1:-1]) if word.endswith("s") else schedule.delay(int(word[1:]), 0.0)
        before, after = requests[at - 1], requests[at]
        pause = after.began - (before.began + (before.seconds or 0.0))
        if pause < promised - _SLACK:
            found.append(f"{word} before request {at}: {pause:.3f} s, promised {promised:.3f} s")
    return found
