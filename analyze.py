# PYTHON_ARGCOMPLETE_OK
"""Analyse a sweep's results: `python analyze.py --help`."""

import sys

from raycifar.commands.analyze import main

if __name__ == "__main__":
    sys.exit(main())
