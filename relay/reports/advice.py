"""What an operator can do first about a tenant, in words; the page has a button for it where there is one."""

from relay.reports.overview import PAUSED, STOPPED, UNCONFIGURED, TenantStatus


def advice(tenant: TenantStatus) -> str:
    """One or two sentences; empty where nothing needs an operator."""
    match tenant.state:
        case "halted":
            return "Correct what the reason names; its code says how. Then ask ION again."
        case state if state == PAUSED:
            return "Nothing is sent until somebody resumes the tenant. Resume it once the reason is gone."
        case state if state == UNCONFIGURED and (tenant.count.pending or tenant.count.parked):
            return "Add the tenant to the settings of a relay, or drop its messages."
        case state if state == STOPPED and tenant.code:
            return "Nothing is sent until a relay runs on this outbox; its code says how to find out why."
        case state if state == STOPPED:
            return "A relay acquires it within seconds. If none does, reload the settings of the relays."
        case _:
            return _of_a_running(tenant)


def _of_a_running(tenant: TenantStatus) -> str:
    if tenant.is_failing:
        return "The relay tries again automatically. Once the cause is gone, ask ION again to wait no longer."
    if tenant.count.parked:
        one = tenant.count.parked == 1
        return (
            f"Look why {'the message was' if one else 'the messages were'} parked. Retry what can be "
            f"delivered now, and drop what cannot."
        )
    if tenant.waits:
        return (
            'Add the documents to the connection point in ION Desk ("sent by application"), then ask ION '
            "again; the relay also asks automatically."
        )
    return ""
