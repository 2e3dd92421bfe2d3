"""The values of the domain, and message ids."""

import dataclasses
import re
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.model import (
    DEFAULT_TO,
    Delivered,
    DocumentName,
    Draft,
    Message,
    MessageId,
    MessageKey,
    Parked,
    Released,
    RowId,
    TenantId,
    TenantState,
    classic_message_id,
)


@given(st.binary(min_size=16, max_size=16))
@example(bytes(16))
@example(b"\xff" * 16)
def test_a_classic_message_id_is_a_version_4_uuid_without_hyphens(raw: bytes) -> None:
    made = classic_message_id(raw)
    assert re.fullmatch("[0-9a-f]{32}", made)
    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert made == uuid.UUID(bytes=raw, version=4).hex


def test_the_example_in_the_docstring_is_true() -> None:
    assert classic_message_id(bytes(16)) == "00000000000040008000000000000000"


def test_a_message_s_key_is_what_identifies_it_and_its_row() -> None:
    message = Message(RowId(1), TenantId("ACME_PRD"), DocumentName("D"), MessageId("m"), b"x", 1)
    assert message.key == MessageKey(RowId(1), TenantId("ACME_PRD"), MessageId("m"))


def test_values_are_compared_by_content_and_immutable() -> None:
    draft = Draft(TenantId("ACME_PRD"), DocumentName("Sync.SalesOrder"), b"<x/>")
    message = Message(RowId(1), draft.tenant_id, draft.document_name, MessageId("m"), b"x", 1)
    assert message == dataclasses.replace(message, to_logical_id=DEFAULT_TO, parameters="{}", attempts=0)
    assert (message.ordering_key, message.holds_for, message.age) == (None, 0.0, 0.0)
    state = TenantState(draft.tenant_id, "idle", "", datetime(2026, 1, 1, tzinfo=UTC))
    assert state.next_try is None
    assert Released("why") == Released("why", counted=False, wait=0.0)
    for value in (draft, message, state, Delivered(), Released("why"), Parked("why")):
        assert not hasattr(value, "__dict__")
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)
