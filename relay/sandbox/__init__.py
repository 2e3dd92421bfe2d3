"""This file is the door of the sandbox: a stand-in ION to try the relay on, with weather to order."""

from relay.sandbox.judge import Violation
from relay.sandbox.record import Request, Taken
from relay.sandbox.server import Sandbox
from relay.sandbox.tenants import Credentials, SandboxTenant
from relay.sandbox.weather import Rule, WeatherError

__all__ = ["Credentials", "Request", "Rule", "Sandbox", "SandboxTenant", "Taken", "Violation", "WeatherError"]
