"""The same as: knowsam-lite data isic2018 ..."""

import sys

from knowsam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "isic2018", *sys.argv[1:]]))
