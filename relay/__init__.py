"""The relay: it delivers messages from an outbox to Infor ION (IMS v3)."""

__version__ = "0.2.0"
