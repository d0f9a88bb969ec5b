"""`knowsam-lite data NAME`: a published data set, or your own images, in the folder layout."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from knowsam_lite.errors import UserError
from knowsam_lite.files import in_shell

if TYPE_CHECKING:
    from knowsam_lite.data.prepare import Prepared, Recipe, Request


@dataclass(frozen=True)
class Options:
    """The options of every data set."""

    out: Path | None = None  # new folder; default data/NAME
    size: int | None = None  # pixels; default: the published size
    fit: Literal["keep", "pad", "squash"] = "keep"  # longer side = size; square with black; square, distorted
    labeled: str = ""  # a preset of the set's page or any value of train --labeled; recorded in dataset.json
    seed: int = 0  # for splits that are not official, and for the choice of labeled images
    val: float | None = None  # share of the groups for validation; default: the set's
    test: float | None = None  # share for the test, if there is no official one
    find_duplicates: bool = False  # pictures that look alike stay in one split
    workers: int | None = None  # processes; default: one for each core
    dry_run: bool = False  # only say what would be done
    json: bool = False  # print the result as one JSON object, last


@dataclass(frozen=True)
class PublishedOptions(Options):
    """Download, verify, unpack and convert a published data set."""

    variant: str = ""  # which part or split of the set; default: the first
    archive: tuple[Path, ...] = ()  # files (or unpacked folders) that you have: nothing is downloaded
    cache: Path | None = None  # where downloads are kept; default: KNOWSAM_LITE_CACHE or the user's cache


@dataclass(frozen=True)
class OwnOptions(Options):
    """Convert your own images and masks."""

    images: Annotated[Path, tyro.conf.arg(help="folder or archive of images, or of images and masks")] = (
        Path()
    )
    masks: Path | None = None  # folder or archive of masks; default: beside the images
    nnunet: Path | None = None  # instead: nnU-Net's folder, with imagesTr, labelsTr and dataset.json
    coco: Path | None = None  # instead of masks: COCO's JSON; images: below --images, else below its folder
    labelme: Path | None = None  # instead: folder of LabelMe's JSON files beside their pictures
    mask_suffix: str = "_mask"  # follows the image's name in its mask's name
    mask_prefix: str = ""  # precedes it
    classes: tuple[str, ...] = ("background", "object")  # the background first
    values: tuple[str, ...] = ()  # mask value of each class, or #rrggbb; default: 0 and 255
    ignore: str = ""  # mask value, or #rrggbb, of pixels whose class is unknown: they count for nothing
    drawn_on: Literal["", "shown", "stored"] = ""  # where EXIF turns images: what the masks were drawn on
    group: str = ""  # regular expression that finds the patient (the video, ...) in a file's name
    title: str = "own images"  # the data set's name


def data(arguments: Sequence[str]) -> int:
    """bring a published data set, or your own images, into one folder"""
    from knowsam_lite.data.sets import SETS

    name, *rest = arguments or [""]
    if name in ("", "-h", "--help"):
        print("usage: knowsam-lite data NAME [--help | options]\n")
        for each, variants in SETS.items():
            print(f"  {each:10} variants: {', '.join(variants)}")
        print(f"  {'own':10} any two folders, one folder with suffixes, nnU-Net, COCO or LabelMe")
        return 0
    if name == "own":
        return _run(*_own(rest))
    return _run(*_published(name, rest))


def _published(name: str, arguments: Sequence[str]) -> "tuple[Recipe, Request, Options]":
    from knowsam_lite.data.sets import SETS, find_recipe
    from knowsam_lite.downloads import cache_folder

    find_recipe(name)
    variants = ", ".join(SETS[name])
    options = tyro.cli(
        PublishedOptions,
        args=arguments,
        prog=f"knowsam-lite data {name}",
        description=f"Download, verify, unpack and convert {name}. Variants: {variants}.",
    )
    recipe = find_recipe(name, options.variant)
    out = options.out or Path("data", recipe.name.replace("/", "-"))
    return recipe, _request(options, out, options.archive, options.cache or cache_folder()), options


def _own(arguments: Sequence[str]) -> "tuple[Recipe, Request, Options]":
    options = tyro.cli(OwnOptions, args=arguments, prog="knowsam-lite data own")
    out = options.out or Path("data", "own")
    recipe, given = _own_recipe(options)
    return recipe, _request(options, out, given, out), options


def _own_recipe(options: OwnOptions) -> "tuple[Recipe, tuple[Path, ...]]":
    """The recipe for what was given, and the folders or archives that it reads."""
    from knowsam_lite.data.prepare.obtain import require
    from knowsam_lite.data.sets import coco, labelme, nnunet, own

    forms = [name for name in ("nnunet", "coco", "labelme") if getattr(options, name) is not None]
    beside = [name for name in ("images", "masks") if getattr(options, name) not in (None, Path())]
    if len(forms) > 1 or (forms and beside not in ([], ["images"] if forms == ["coco"] else [])):
        raise UserError(
            f"found {' and '.join('--' + name for name in [*forms, *beside])}, expected one form: give one"
        )
    if forms:
        names = ["mask_suffix", "mask_prefix", "classes", "values", "ignore"]
        names += [] if forms == ["coco"] else ["drawn_on"]
        given_too = [name for name in names if getattr(options, name) != getattr(OwnOptions(), name)]
        if given_too:
            raise UserError(
                f"found --{given_too[0].replace('_', '-')} beside --{forms[0]}, expected it with --images "
                "alone: that form says it itself, so leave it out"
            )
    if options.nnunet is not None:
        return nnunet.recipe(require(options.nnunet), options.title, options.group), (options.nnunet,)
    if options.coco is not None:
        images = options.coco.parent if options.images == Path() else options.images
        annotations = require(options.coco)
        found = coco.recipe(annotations, images, options.title, options.group, options.drawn_on)
        return found, (images,)
    if options.labelme is not None:
        return labelme.recipe(require(options.labelme), options.title, options.group), (options.labelme,)
    if options.images == Path():
        raise UserError(
            "found no --images, expected a folder: say where your images are, or give --nnunet, --coco or "
            "--labelme"
        )
    given = (options.images,) if options.masks is None else (options.images, options.masks)
    layout = own.Own(
        options.mask_suffix,
        options.mask_prefix,
        options.classes,
        options.values,
        options.group,
        options.ignore,
        options.drawn_on,
    )
    return own.recipe(layout, options.title, given), given


def _request(options: Options, out: Path, archives: tuple[Path, ...], cache: Path) -> "Request":
    from knowsam_lite.data.prepare import Request, Size

    return Request(
        out=out,
        archives=archives,
        size=Size(options.size, options.fit),
        labeled=options.labeled,
        seed=options.seed,
        val=options.val,
        test=options.test,
        find_duplicates=options.find_duplicates,
        workers=options.workers or os.cpu_count() or 1,
        cache=cache,
    )


def _run(recipe: "Recipe", request: "Request", options: Options) -> int:
    from knowsam_lite.data.prepare import plan, prepare

    print("\n".join(plan(recipe, request)))
    if options.dry_run:
        print("dry run: nothing was downloaded or written")
        return 0
    result = prepare(recipe, request)
    _report(recipe, request, result)
    if options.json:
        print(json.dumps(asdict(result), default=str))
    return 0


def _report(recipe: "Recipe", request: "Request", result: "Prepared") -> None:
    for warning in result.warnings:
        print(f"warning: {warning}")
    counts = ", ".join(f"{result.counts[s]} {s}" for s in ("train", "val", "test") if s in result.counts)
    print(f"{'wrote' if result.new else 'found, made earlier by the same command:'} {result.out}: {counts}")
    if result.labeled:
        print(f"labeled: {result.chosen} images; train with:")
        where = f"--data {in_shell(result.out)} --labeled {result.labeled}"
        print(f"  knowsam-lite train {where} --seed {request.seed}")
    elif recipe.labeled and "train" in result.counts:
        values = ", ".join(f"{preset} = {value}" for preset, value in recipe.labeled.items())
        print(f"the paper's values of --labeled for knowsam-lite train: {values}")
