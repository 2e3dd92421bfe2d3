"""This package is the relay: it carries messages from an outbox to Infor ION."""

__version__ = "0.1.0"
