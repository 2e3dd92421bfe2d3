"""Logs, error codes and their run book, metrics, tracing, liveness."""
