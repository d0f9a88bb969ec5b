"""`python -m knowsam_lite.course build` makes notebooks, `grade` marks a class, `site` makes a site."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from knowsam_lite.course import instructor
from knowsam_lite.course.builder import ROOT, build, stale
from knowsam_lite.errors import UserError, exit_code


def main() -> int:
    """Run a command; `build --check` lists what is out of date and returns 1 if there is anything."""
    parser = argparse.ArgumentParser("python -m knowsam_lite.course", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("build", help="make the notebooks and the reference pages")
    make.set_defaults(command=_build)
    make.add_argument("chapters", nargs="*", metavar="CHAPTER", help='such as "05"; default: all')
    make.add_argument("--check", action="store_true", help="only compare: build and execute nothing")
    make.add_argument("--force", action="store_true", help="also execute unchanged chapters")
    make.add_argument("--instructor", metavar="DIR", type=Path, help="only make an nbgrader course there")
    make.add_argument("--seed", type=int, default=1, help="of the instructor's hidden tests (default: 1)")
    mark = commands.add_parser("grade", help="mark a folder of submissions, each in an isolated process")
    mark.set_defaults(command=_grade)
    mark.add_argument("folder", type=Path, metavar="FOLDER", help="a notebook, or a folder, for each student")
    mark.add_argument("--out", type=Path, metavar="DIR", help="gradebook and pages (default: FOLDER_graded)")
    mark.add_argument("--processes", type=int, default=2, help="submissions at a time (default: 2)")
    mark.add_argument("--seconds", type=float, default=300, help="that a submission may take (default: 300)")
    mark.add_argument("--memory", type=float, default=4, help="GB that a submission may take (default: 4)")
    mark.add_argument("--seed", type=int, default=1, help="of the hidden tests (default: 1)")
    site = commands.add_parser("site", help="make a site of the course, the pages and the reference")
    site.set_defaults(command=_site)
    site.add_argument("out", type=Path, metavar="DIR", help="a new or empty folder")
    site.add_argument(
        "--demo", type=Path, metavar="DIR", help="what `knowsam-lite demo` wrote, to be shown in it"
    )
    start = commands.add_parser("start", help="make the page with which JupyterLab opens")
    start.set_defaults(command=_start)
    start.add_argument("out", type=Path, metavar="FILE", help="a notebook beside those of the course")
    slides = commands.add_parser("slides", help="make slides of every chapter: headings, equations, figures")
    slides.set_defaults(command=_slides)
    slides.add_argument("out", type=Path, metavar="DIR", help="for NN_topic.slides.html; they need a network")
    options = parser.parse_args()
    return exit_code(lambda: options.command(options))


def _build(options: argparse.Namespace) -> int:
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


def _grade(options: argparse.Namespace) -> int:
    from knowsam_lite.course.grading.grade import grade
    from knowsam_lite.course.grading.limits import Limits
    from knowsam_lite.course.grading.pages import write

    if os.name != "posix":
        raise UserError(
            "found Windows, expected Linux or macOS for isolated processes: use WSL or a container"
        )
    for name in ("processes", "seconds", "memory"):
        if getattr(options, name) <= 0:
            raise UserError(f"found --{name} {getattr(options, name)}, expected more than 0: correct it")
    folder = options.folder.resolve()
    out = options.out or folder.with_name(f"{folder.name}_graded")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"found files in {out}, expected a new or empty folder: choose another with --out")
    limits, told = Limits(options.seconds, options.memory), partial(print, flush=True)
    graded = grade(folder, ROOT, limits, options.processes, options.seed, told)
    write(graded, folder, out)
    print(f"wrote {out}: gradebook.csv, overview.html, feedback")
    return 0


def _site(options: argparse.Namespace) -> int:
    from knowsam_lite.course.site.build import build as build_site

    dead = build_site(options.out, ROOT, options.demo)
    for link in dead:
        print(f"dead link in {link}", file=sys.stderr)
    print(f"wrote {options.out / 'index.html'}")
    return 1 if dead else 0


def _start(options: argparse.Namespace) -> int:
    from knowsam_lite.course.builder import text
    from knowsam_lite.course.welcome import page
    from knowsam_lite.files import write_text

    write_text(options.out, text(page(ROOT)))
    return 0


def _slides(options: argparse.Namespace) -> int:
    from knowsam_lite.course.slides import write

    for path in write(options.out, ROOT):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
