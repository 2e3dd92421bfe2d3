"""This package is what the relay serves: health, metrics, the operator's page, and what ION asks of it."""
