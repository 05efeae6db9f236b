"""``python -m fincon.cli``: as ``fincon``."""

from fincon.cli import main

main()
