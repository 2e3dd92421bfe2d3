"""This file is the door of the sandbox: an ION simulator to try the relay on, with faults to inject."""

from relay.sandbox.conformance import Violation
from relay.sandbox.faults import FaultError, Rule
from relay.sandbox.record import Request, Taken
from relay.sandbox.server import Sandbox
from relay.sandbox.tenants import Credentials, SandboxTenant

__all__ = ["Credentials", "FaultError", "Request", "Rule", "Sandbox", "SandboxTenant", "Taken", "Violation"]
