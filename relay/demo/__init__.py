"""This package is the demo: a real relay, an ION simulator with its faults, and a verdict."""
