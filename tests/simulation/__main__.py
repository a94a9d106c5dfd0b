"""`python -m tests.simulation --seeds 1000 --from 0`."""

import sys

from tests.simulation.runs import main

if __name__ == "__main__":
    sys.exit(main())
