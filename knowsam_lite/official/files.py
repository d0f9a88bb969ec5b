"""The authors' checkpoint files: `SGDL_best_model.pth` (students) and `sam_best_model.pth` (SAM), read and
written.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside
from knowsam_lite.official.keys import load_official, official_state
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.official.teacher import OfficialTeacher
from knowsam_lite.sam.backbones import BACKBONES, Backbone
from knowsam_lite.sam.weights import read_tensors

STUDENTS_FILE = "SGDL_best_model.pth"
TEACHER_FILE = "sam_best_model.pth"


def _require_classes(path: Path, found: int, wanted: int | None, file: str) -> int:
    """The number of classes of a checkpoint; `found` is 0 if it is not one of the authors'."""
    if not found:
        raise UserError(f"found another checkpoint at {path}, expected the authors' {file}: give that file")
    if wanted not in (None, found):
        raise UserError(
            f"found {path} for {found} classes, expected {wanted}: use it with data of {found} classes"
        )
    return found


def _students_classes(tensors: Mapping[str, Tensor]) -> int:
    head = tensors.get("UNet.out_conv.weight")
    return 0 if head is None or head.ndim != 4 else head.shape[0]


def _teacher_classes(tensors: Mapping[str, Tensor]) -> int:
    return len(
        {match[1] for name in tensors if (match := re.match(r"super_prompt\.box_decoder\.(\d+)\.", name))}
    )


def load_students(path: Path, num_classes: int | None = None) -> OfficialStudents:
    """The authors' students from their file, in evaluation mode; `num_classes` by default the file's.

    Raises UserError if the file is unreadable or a different one, if a tensor is missing, unexpected or of
    another shape, or if the class count differs.
    """
    tensors = read_tensors(path)
    classes = _require_classes(path, _students_classes(tensors), num_classes, STUDENTS_FILE)
    students = OfficialStudents(classes)
    load_official(students, tensors, str(path))
    return students.eval()


def load_teacher(
    path: Path,
    num_classes: int | None = None,
    image_size: int = 256,
    backbone: Backbone = BACKBONES["sam_vit_b"],
) -> OfficialTeacher:
    """The authors' SAM, frozen tensors included, from their file, in evaluation mode.

    No other weights are needed. `num_classes` by default the file's. Raises UserError as `load_students`.
    """
    tensors = read_tensors(path)
    classes = _require_classes(path, _teacher_classes(tensors), num_classes, TEACHER_FILE)
    teacher = OfficialTeacher(classes, image_size, backbone)
    load_official(teacher, tensors, str(path))
    return teacher.eval()


def _save(module: nn.Module, path: Path) -> None:
    state = {name: tensor.detach().cpu().clone() for name, tensor in official_state(module).items()}
    write_aside(path, lambda file: torch.save(state, file))


def save_students(students: OfficialStudents, path: Path) -> None:
    """Write students under the authors' names, as their `SGDL_best_model.pth`."""
    _save(students, path)


def save_teacher(teacher: OfficialTeacher, path: Path) -> None:
    """Write a teacher under the authors' names, as their `sam_best_model.pth`."""
    _save(teacher, path)
