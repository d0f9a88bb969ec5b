"""`python -m knowsam_lite.course build [--check] [--force]`."""

import argparse
import sys

from knowsam_lite.course.builder import ROOT, build, stale
from knowsam_lite.errors import UserError


def main() -> int:
    """Build all notebooks, or with --check list those that are out of date; 1 if there are any."""
    parser = argparse.ArgumentParser("python -m knowsam_lite.course", description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.add_argument("--check", action="store_true", help="compare, build and execute nothing")
    parser.add_argument("--force", action="store_true", help="execute chapters that have not changed, too")
    options = parser.parse_args()
    try:
        if not options.check:
            for path in build(ROOT, options.force):
                print(f"wrote {path.relative_to(ROOT)}")
            return 0
        old = stale(ROOT)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in old:
        print(f"stale: {path.relative_to(ROOT)}", file=sys.stderr)
    if old:
        print("run: python -m knowsam_lite.course build", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
