"""Pure decisions: no I/O, clock, chance or log; time and chance are arguments."""
