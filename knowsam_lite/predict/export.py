"""A trained model as one ONNX graph, which needs neither Python nor this library: pictures in, classes out.

The graph holds the preprocessing, so that nothing has to be written again elsewhere: bytes are resized as
`knowsam_lite.data.transforms.resize` does it, by area to shrink and bilinear to grow, rounded to whole
levels, and the logits are resized back.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside
from knowsam_lite.methods import Method
from knowsam_lite.methods.distillation import SamDistillation
from knowsam_lite.predict.predictor import Predictor
from knowsam_lite.predict.tiles import Views, blended

OPSET = 18  # onnxruntime 1.14 and onnxruntime-web run it
KEY = "knowsam_lite"  # of the metadata
CALIBRATION = 64  # pictures from which the ranges of an int8 model are taken
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def resampling(length: int, size: int) -> Tensor:
    """The matrix (size, length) that resizes one axis: area averages if it is longer, else bilinear."""
    step = length / size
    target = torch.arange(size, dtype=torch.float32).unsqueeze(1)
    source = torch.arange(length, dtype=torch.float32).unsqueeze(0)
    overlap = torch.minimum(source + 1, (target + 1) * step) - torch.maximum(source, target * step)
    center = ((target + 0.5) * step - 0.5).clamp(min=0, max=length - 1)
    shrink, grow = overlap.clamp(min=0) / step, (1 - (source - center).abs()).clamp(min=0)
    return torch.where(source[0, -1] >= size, shrink, grow)  # a tensor, for the length is known at run time


class Exported(nn.Module):
    """Pictures uint8 (N, H, W, 3), RGB -> classes uint8 (N, H, W), and (N, C, H, W) of each view.

    The latter are probabilities; the prediction's come first. Any H and W; if one is longer and one shorter
    than the model's own size, levels may differ by one from what `Predictor` reads, which rounds in between.
    """

    def __init__(self, method: Method, image_size: int):
        super().__init__()
        self.method = method.method if isinstance(method, SamDistillation) else method  # without SAM
        self.image_size = image_size

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        height, width = image.shape[1:3]
        x = image.permute(0, 3, 1, 2).float()  # (N, H, W, 3) -> (N, 3, H, W)
        x = resampling(height, self.image_size) @ x @ resampling(width, self.image_size).T
        x = (x + 0.5).floor() / 255
        views = self.method.views(x)
        if self.method.prediction_view != "SAM":
            views.pop("SAM", None)  # a teacher, not needed after training
        first = views.pop(self.method.prediction_view, None)
        logits = [self.method.predict(x) if first is None else first, *views.values()]
        p = [
            F.interpolate(z.float(), (height, width), mode="bilinear", align_corners=False).softmax(dim=1)
            for z in logits
        ]
        return p[0].argmax(dim=1).to(torch.uint8), *p


def output_names(model: Exported) -> dict[str, str]:
    """Names of the outputs after the classes, in their order, and what the library calls these views."""
    method, size = model.method, model.image_size
    with torch.inference_mode():
        views = list(method.views(torch.zeros(1, 3, size, size)))
    others = [view for view in views if view not in (method.prediction_view, "SAM")]
    named = {re.sub(r"\W+", "_", view.lower()): view for view in others}
    return {"probabilities": method.prediction_view, **named}


def export(predictor: Predictor, path: Path) -> None:
    """Write the model as ONNX, with its classes, mask values and view names as metadata.

    Dynamic are the number of pictures and their size. Raises UserError without the packages of the extra
    `onnx`, and if `path` cannot be written.
    """
    require_onnx()
    import onnx

    method, size = predictor.method, predictor.image_size
    model = Exported(method, size).eval()
    names = output_names(model)
    example = torch.zeros(2, size + 8, size + 16, 3, dtype=torch.uint8)
    dims = {axis: torch.export.Dim(name) for axis, name in enumerate(("n", "height", "width"))}
    with sdpa_kernel(SDPBackend.MATH):  # a fused kernel gives the heads in an order that ONNX does not know
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["classes", *names],
            dynamic_shapes={"image": dims},
            opset_version=OPSET,
        )
    assert program is not None  # it is None only if the exporter writes the file itself
    graph = program.model_proto
    classes = predictor.classes
    about = {
        "method": method.name,
        "image_size": size,
        "tile": predictor.tile,
        "classes": list(classes.names),
        "mask_values": classes.description("")["mask_values"],
        "views": names,
        "note": method.note,
    }
    onnx.helper.set_model_props(graph, {KEY: json.dumps(about)})
    onnx.checker.check_model(graph)
    write_aside(path, lambda file: file.write(graph.SerializeToString()))


def quantize(path: Path, out: Path, pictures: Iterable[np.ndarray]) -> None:
    """Write the int8 version of an exported model: most convolutions with 8-bit weights and activations.

    `pictures`: uint8 (H, W, 3), from which the ranges of the activations are taken; no labels are needed.
    """
    require_onnx()
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.rest, None)
            return None if picture is None else {"image": picture[None]}

    with TemporaryDirectory() as folder, silence():
        made = Path(folder, "int8.onnx")
        quantize_static(
            path,
            made,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            nodes_to_exclude=delicate(onnx.load(path)),
        )
        write_aside(out, lambda file: file.write(made.read_bytes()))


@contextmanager
def silence() -> Iterator[None]:
    """Inside, no warnings by `logging`: onnxruntime's is advice that a user of `export` cannot follow."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def delicate(model: Any) -> list[str]:
    """Names of the convolutions that 8 bits harm most for the least gain: depthwise ones and the first."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if shapes.get(node.input[1], (0, 0))[1] in (1, 3)]


class OnnxPredictor:
    """Predicts with an exported model, as `Predictor` does with a run.

    `threads`: of onnxruntime; by default its choice. Raises UserError for a file that is no such model.
    """

    def __init__(self, path: Path, threads: int | None = None):
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        if not path.is_file():
            raise UserError(f"found no {path}, expected a model that `export` wrote: check the path")
        try:
            self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
            self.about: dict[str, Any] = json.loads(self.session.get_modelmeta().custom_metadata_map[KEY])
            self.names = tuple(self.about["classes"])
            self.tile = int(self.about.get("tile", 0))
        except Exception as error:  # onnxruntime has an error of its own for each fault
            reason = str(error).splitlines()[0][:100]
            raise UserError(
                f"found no model of this library in {path} ({reason}), expected one that `export` wrote: "
                "export it again"
            ) from None

    def probabilities(self, picture: np.ndarray) -> np.ndarray:
        """A picture uint8 (H, W, 3) -> float32 (C, H, W)."""
        if not self.tile:
            [p] = self.session.run(["probabilities"], {"image": picture[None]})
            return p[0]
        size = (picture.shape[0], picture.shape[1])
        bands = blended(self._squares, lambda first, end: picture[first:end], size, self.tile)
        return torch.cat([band["p"] for band in bands], dim=1).exp().numpy()

    def _squares(self, pictures: Iterable[np.ndarray]) -> Iterator[Views]:
        for picture in pictures:
            [p] = self.session.run(["probabilities"], {"image": picture[None]})
            yield {"p": torch.from_numpy(p[0]).clamp(min=1e-12).log()}

    def __call__(self, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Pictures uint8 (H, W, 3) of any sizes -> class indices uint8 (H, W) of each."""
        if self.tile:
            return [self.probabilities(picture).argmax(axis=0).astype(np.uint8) for picture in pictures]
        return [self.session.run(["classes"], {"image": picture[None]})[0][0] for picture in pictures]


def require_onnx() -> None:
    """Raise UserError, with the command, unless what reads and writes ONNX is installed."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"found no {', '.join(missing)}, expected it for ONNX: run `pip install 'knowsam-lite[onnx]'`"
        )
