"""The process: composition, start and stop, supervision, leases, maintenance, signals, `relay check`."""
