"""``python -m executor``: the same as the command ``executor``."""

from executor.cli import main

main()
