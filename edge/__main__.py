"""`python -m edge`: the same as the `samedge` command."""

from edge.cli import main

main()
