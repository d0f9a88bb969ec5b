"""`python -m knowsam_lite.course build [CHAPTER ...] [--check] [--force] [--instructor DIR [--seed N]]`."""

import argparse
import sys
from pathlib import Path

from knowsam_lite.course import instructor
from knowsam_lite.course.builder import ROOT, build, stale
from knowsam_lite.errors import exit_code


def main() -> int:
    """Build all notebooks, or with --check list those that are out of date; 1 if there are any."""
    parser = argparse.ArgumentParser("python -m knowsam_lite.course", description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help='such as "05"; default: all')
    parser.add_argument("--check", action="store_true", help="only compare: build and execute nothing")
    parser.add_argument("--force", action="store_true", help="also execute unchanged chapters")
    parser.add_argument("--instructor", metavar="DIR", type=Path, help="only make an nbgrader course there")
    parser.add_argument("--seed", type=int, default=1, help="of the instructor's hidden tests (default: 1)")
    options = parser.parse_args()
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.instructor is not None:
        for path in instructor.build(options.instructor, ROOT, options.chapters, options.seed):
            print(f"wrote {path}")
        return 0
    if not options.check:
        for path in build(ROOT, options.force, options.chapters):
            print(f"wrote {path.relative_to(ROOT)}")
        return 0
    old = stale(ROOT, options.chapters)
    for path in old:
        print(f"stale: {path.relative_to(ROOT)}", file=sys.stderr)
    if old:
        print("run: python -m knowsam_lite.course build", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
