"""The ION simulator: IMS v3 and its token service on 127.0.0.1, with faults to inject.

The public interface for tests, besides `relay sandbox` on the command line:

    async with Sandbox([SandboxTenant("ACME_PRD")]) as sandbox:
        environment = sandbox.environment(tmp_path)  # settings that point a relay at it
        fault = sandbox.faults(call="post", status=503, count=3)
        ...
        await sandbox.until(lambda: len(sandbox.messages()) == 5)
        assert fault.is_exhausted and sandbox.violations == []

`Sandbox` has `start()`, `stop()`, `url`, `tenants`, `tenant(id)`, `environment(directory)`, `ionapi(id)`;
`faults(**fields)`, `add_faults(list)`, `injected_faults`, `remove_fault(fault)`, `clear_faults()`;
`messages()`, `requests()`, `payload(id, message_id)`, `violations`, `record`, `clear_record()`;
`until(fact)`. `faults` takes the fields of docs/sandbox.md, raises `FaultError` and returns the `Fault`, with
the number of times it was `applied`.
"""

from relay.sandbox.conformance import Violation
from relay.sandbox.fault_spec import FaultError
from relay.sandbox.faults import Fault
from relay.sandbox.record import Redelivery, Request, TakenMessage
from relay.sandbox.server import Sandbox
from relay.sandbox.tenants import Credentials, SandboxTenant

__all__ = [
    "Credentials",
    "Fault",
    "FaultError",
    "Redelivery",
    "Request",
    "Sandbox",
    "SandboxTenant",
    "TakenMessage",
    "Violation",
]
