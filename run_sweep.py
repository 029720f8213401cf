# PYTHON_ARGCOMPLETE_OK
"""Run a sweep: `python run_sweep.py --help`."""

import sys

from raycifar.commands.run_sweep import main

if __name__ == "__main__":
    sys.exit(main())
