"""Why a message can never be sent: too large, too old, or parameters that ION cannot take."""

import json

from relay.core.model import Message
from relay.core.validation import Problem, parameter_problems
from relay.delivery.context import TenantRules


def unsendable_reason(message: Message, rules: TenantRules) -> str | None:
    """Why it can never be sent; None: it can."""
    if message.size > rules.max_message_bytes:
        return f"{message.size} bytes are more than the tenant's limit of {rules.max_message_bytes}"
    if rules.park_after is not None and message.age > rules.park_after:
        return f"older than {rules.park_after:g} s"
    if message.parameters == "{}":
        return None
    return next((str(problem) for problem in _parameter_problems(message.parameters)), None)


def _parameter_problems(text: str) -> list[Problem]:
    try:
        parameters = json.loads(text)
    except ValueError:
        return [Problem("parameters", "is not JSON", "store a JSON object")]
    return parameter_problems(parameters)
