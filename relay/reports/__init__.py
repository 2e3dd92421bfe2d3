"""What operators read, for the command line and the page.

A file for each question. Functions read the outbox, take the time and the configured tenants as arguments,
and return frozen values with `as_json()`; nothing here prints, or depends on settings or HTML.
"""
