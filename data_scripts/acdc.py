"""The same as: knowsam-lite data acdc ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "acdc", *sys.argv[1:]]))
