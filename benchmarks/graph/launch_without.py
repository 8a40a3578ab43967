"""``graph.launch`` for `benchmarks.graph.without`: its check of the configuration knows the project's builder alone.

Imports no ray: the launcher sets what ray reads at its import.
"""

import sys

from graph import check_config, launch

if __name__ == "__main__":
    check_config.IMPORT_PATH = "benchmarks.graph.without:build"
    sys.exit(launch.main())
