"""`python -m gftzoo` is the command `gftzoo`."""

from gftzoo.cli import main

main()
