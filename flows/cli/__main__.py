"""``python -m flows.cli``: as ``fincon``."""

from fincon.flows.cli import main

main()
