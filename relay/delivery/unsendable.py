"""Why a message can never be sent: too large, too old, or content that ION cannot take."""

from relay.core.content import document_problem
from relay.core.model import Message
from relay.core.parameters import read_parameters
from relay.core.validation import Problem, parameter_problems
from relay.delivery.context import TenantRules

_MAX_WHAT = 300


def unsendable_reason(message: Message, rules: TenantRules) -> str | None:
    """Why it can never be sent; None: it can."""
    if message.flaw is not None:
        return message.flaw
    if message.size > rules.max_message_bytes:
        return f"{message.size} bytes are more than the tenant's limit of {rules.max_message_bytes}"
    if rules.park_after is not None and message.age > rules.park_after:
        return f"older than {rules.park_after:g} s"
    found = read_parameters(message.parameters)
    problems = [found] if isinstance(found, Problem) else parameter_problems(found)
    return next(map(str, problems), None)


def content_reason(message: Message, rules: TenantRules) -> str | None:
    """Why its payload, which is whole here, can never be sent; None: it can."""
    problem = document_problem(message.payload, message.document_name, rules.check, rules.opaque)
    return None if problem is None else str(problem)


def unpacked_reason(error: Exception) -> str:
    """Why no post can be made of it, where nothing wrong was found before."""
    what = f"no post can be made of it ({type(error).__name__}: {error})"
    return str(Problem("message", what[:_MAX_WHAT], "enqueue it again with other values"))
