"""This file is the door of the sandbox: a stand-in ION to try the relay on, with weather to order."""

from relay.sandbox.conformance import Violation
from relay.sandbox.faults import Rule, WeatherError
from relay.sandbox.record import Request, Taken
from relay.sandbox.server import Sandbox
from relay.sandbox.tenants import Credentials, SandboxTenant

__all__ = ["Credentials", "Request", "Rule", "Sandbox", "SandboxTenant", "Taken", "Violation", "WeatherError"]
