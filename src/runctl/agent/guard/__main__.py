"""The guard as a program: ``guard.pyz run``."""

import sys

from runctl.agent.guard.daemon import main

sys.exit(main(sys.argv[1:]))
