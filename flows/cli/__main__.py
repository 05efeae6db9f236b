"""``python -m flows.cli``: as ``fincon``."""

from flows.cli import main

main()
