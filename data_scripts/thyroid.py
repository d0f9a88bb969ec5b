"""The same as: knowsam-lite data thyroid ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "thyroid", *sys.argv[1:]]))
