"""This package is the relay: it carries messages from an outbox to Infor ION."""

__version__ = "0.2.0"
