"""The best and the worst cases of a split, in pictures."""

import numpy as np

from knowsam_lite.figures.look import color
from knowsam_lite.report.gather import Gatherer, Shown
from knowsam_lite.report.markup import figure, image, section, tag
from knowsam_lite.report.tiles import ADDED, CONFUSED, MISSED, class_paint, tiles
from knowsam_lite.runs.run import Run


def cases(run: Run, gathered: Gatherer) -> str:
    """The section with the extremes by Dice, four pictures each."""
    worst, best = gathered.extremes()
    parts = [
        tag(
            "p",
            "Look at the worst first: is the object small, faint, or touched by something else? Then check "
            "whether the uncertainty is high where the prediction is wrong.",
        ),
        _legend(run, gathered.view),
    ]
    for title, group in (("Worst", worst), ("Best", best)):
        if group:
            parts.append(tag("h3", title))
            cards = [_card(run, shown, gathered.view) for shown in group]
            parts.append(f'<div class="cases">{"".join(cards)}</div>')
    return section("Worst and best cases", *parts)


def _card(run: Run, shown: Shown, view: str) -> str:
    record = shown.record
    pictures = tiles(shown, run.dataset.image(record), color(view))
    says = {
        "image": "The image.",
        "outlines": "White: truth. Color: prediction.",
        "errors": "Colored where wrong.",
        "uncertainty": "Bright where unsure.",
    }
    alts = {
        "image": f"The image {record.id}.",
        "outlines": f"The image {record.id} with the outlines of the truth and of the prediction of {view}.",
        "errors": f"Error map of {record.id}: {_error_words(shown)}",
        "uncertainty": f"Entropy of {view} on {record.id}: mean {shown.uncertainty.mean() / 255:.3f} of 1.",
    }
    grid = "".join(figure(image(data, "jpeg", alts[name]), says[name]) for name, data in pictures.items())
    head = f"<h4>{tag('span', record.case)} · Dice&nbsp;{shown.dice:.3f}</h4>"
    slice_ = f"The slice of this volume with the most wrong pixels, {record.id}: " if record.volume else ""
    text = tag("p", slice_ + _error_words(shown), class_="quiet")
    return f'<article class="case">{head}{text}<div class="tiles">{grid}</div></article>'


def _error_words(shown: Shown) -> str:
    """One sentence on what is missed and what is wrongly marked."""
    truth, found = shown.truth > 0, shown.found > 0
    both = int(np.count_nonzero(truth & found))
    if not truth.any():
        says = f"{found.mean():.1%} of the image is marked, where the truth is empty"
    elif not found.any():
        says = f"The object, {truth.mean():.1%} of the image, is missed entirely"
    else:
        missed, added = 1 - both / np.count_nonzero(truth), 1 - both / np.count_nonzero(found)
        says = f"{missed:.0%} of the object is missed, {added:.0%} of what is marked lies outside it"
    confused = np.count_nonzero(truth & found & (shown.truth != shown.found))
    return says + (f"; {confused / both:.0%} of their overlap has the wrong class." if confused else ".")


def _legend(run: Run, view: str) -> str:
    """What the colours mean."""
    names = run.dataset.classes[1:]
    entries = [("truth", "#FFFFFF")]
    if len(names) == 1:
        entries.append((f"prediction of {view}", color(view)))
    else:
        entries += [(f"prediction: {name}", class_paint(i + 1)) for i, name in enumerate(names)]
    entries += [("error map: missed", MISSED), ("too much", ADDED)]
    entries += [("wrong class", CONFUSED)] if len(names) > 1 else []
    items = "".join(
        f'<li><i style="background:{paint}"></i>{tag("span", name)}</li>' for name, paint in entries
    )
    return f'<ul class="legend">{items}</ul>'
