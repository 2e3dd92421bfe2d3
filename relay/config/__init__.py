"""Settings: where they come from, their models, their validation, and the tenants directory."""
