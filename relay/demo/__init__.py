"""This package is the demo: a real relay, a stand-in ION with its weather, and a verdict."""
