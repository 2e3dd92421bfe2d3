"""`python -m relay`: the same command line as `relay`."""

from relay.cli import main

main()
