"""One pass of a trained method over images: the scores of each, and the encoder's features."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from knowsam_lite.data.transforms import resize, to_tensor
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.predict import Predictor
from knowsam_lite.subnets import UNet, VNet
from knowsam_lite.suggest.scores import SCORES, Opinions

Item = TypeVar("Item")


@dataclass(frozen=True)
class Look(Generic[Item]):
    """What the method says of one image.

    `scores`: those of SCORES that this method has. `features` (D,): the deepest ones of its first encoder,
    mean over the pixels, of length 1; None if it has no encoder of this library.
    """

    item: Item
    scores: dict[str, float]
    features: np.ndarray | None


def look_at(predictor: Predictor, images: Iterable[tuple[Item, np.ndarray]]) -> Iterator[Look[Item]]:
    """Look at pictures uint8 (H, W, 3), each with a key of any kind, in batches."""
    method = predictor.ready
    with encoder_features(method) as seen:
        for item, views in _views(predictor, images):
            opinions = opinions_of(views, method.prediction_view)
            found = {name: score(opinions) for name, score in SCORES.items()}
            scores = {name: value for name, value in found.items() if value is not None}
            squares = len(seen) if predictor.tile else min(len(seen), 1)  # that this picture took
            features = [seen.popleft() for _ in range(squares)]
            yield Look(item, scores, unit(np.mean(features, axis=0)) if features else None)


def _views(
    predictor: Predictor, images: Iterable[tuple[Item, np.ndarray]]
) -> Iterator[tuple[Item, dict[str, Tensor]]]:
    """Every view of each picture: in squares if the run was trained on them, else at the network's size."""
    if predictor.tile:
        yield from ((item, predictor.native_views(image)) for item, image in images)
        return
    sized = ((item, to_tensor(resize(image, predictor.image_size))) for item, image in images)
    yield from ((item, views) for item, _, views in predictor.views(sized))


@contextmanager
def encoder_features(method: nn.Module) -> Iterator[deque[np.ndarray]]:
    """Inside, the features (D,) of every image that passes through the first encoder that `method` uses."""
    seen: deque[np.ndarray] = deque()
    first: list[nn.Module] = []

    def see(encoder: nn.Module, _: Any, output: Any) -> None:
        if (first or [encoder])[0] is encoder:
            first[:] = [encoder]
            deepest = output if isinstance(output, Tensor) else output[-1]  # (N, D, h, w)
            seen.extend(unit(each) for each in deepest.float().mean(dim=(2, 3)).cpu().numpy())

    with ExitStack() as hooks:
        for part in deepest_parts(method):
            hooks.callback(part.register_forward_hook(see).remove)
        yield seen


def opinions_of(views: dict[str, Tensor], prediction: str) -> Opinions:
    """The views of a method on one image, sorted into students, prediction and SAM."""
    others = [z for name, z in views.items() if name not in (prediction, "SAM")]
    if len(others) == 1:  # the method predicts with one of two students
        others.append(views[prediction])
    return Opinions(others, views[prediction], views.get("SAM"))


def deepest_parts(method: nn.Module) -> Iterator[nn.Module]:
    """The module behind the deepest features of every encoder of this library in `method`."""
    for part in method.modules():
        if isinstance(part, PretrainedNet):
            yield part.encoder
        elif isinstance(part, UNet | VNet):
            yield part.encoder[-1]


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
