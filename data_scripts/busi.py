"""The same as: knowsam-lite data busi ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "busi", *sys.argv[1:]]))
