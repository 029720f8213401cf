"""`python -m raycifar`: the command `raycifar`."""

import sys

from raycifar.commands.main import main

if __name__ == "__main__":
    sys.exit(main(command="python -m raycifar"))
