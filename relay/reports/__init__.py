"""This package is what operators are told, shared by the command line and the page.

One file a question. Each reads the outbox, is handed the time and the configured tenants, and
answers with frozen values that know `as_json()`; nothing here prints, or knows of settings or HTML.
"""
