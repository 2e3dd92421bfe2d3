"""This package is ION as the relay sees it: bytes (wire), credentials (oauth), HTTP (endpoint)."""
