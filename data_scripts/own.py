"""The same as: knowsam-lite data own ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "own", *sys.argv[1:]]))
