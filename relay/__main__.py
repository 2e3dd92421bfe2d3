"""This file is what `python -m relay` runs: the same command line as `relay`."""

from relay.cli import main

main()
