"""The limits of a tenant's delivery that are no settings."""

BATCH_MESSAGES = 128
"""Messages of one read of the outbox, and settlements of one commit: larger groups stall the pipeline."""

PREFETCH_BYTES = 16 * 2**20
"""Payload that is prefetched for a tenant, at most; large payloads are read one by one when they are sent."""

MAX_UNSETTLED = BATCH_MESSAGES
"""A tenant's messages in flight and not settled yet: those that are sent again after a crash."""
