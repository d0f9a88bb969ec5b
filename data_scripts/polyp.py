"""The same as: knowsam-lite data polyp ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "polyp", *sys.argv[1:]]))
