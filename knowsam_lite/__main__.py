"""`python -m knowsam_lite` is the command line."""

import sys

from knowsam_lite.cli import main

sys.exit(main())
