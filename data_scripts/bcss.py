"""The same as: knowsam-lite data bcss ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "bcss", *sys.argv[1:]]))
