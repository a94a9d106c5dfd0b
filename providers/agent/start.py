"""The agent's entry: `python3 -IS <folder>/providers/agent/start.py WORKSPACE STATE`."""

import sys

sys.path.insert(0, __file__[: -len("/providers/agent/start.py")] or ".")

from providers.agent.main import main

sys.exit(main(sys.argv[1:]))
