"""The demo: a real relay, an ION simulator with faults, and a verdict on every message."""
