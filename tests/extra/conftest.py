"""What needs more than the other tests do, nbgrader, selenium and a browser: `make test-extra` runs it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # helpers
