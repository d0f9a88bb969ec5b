"""The authors' checkpoint files: names and shapes of their key lists, there and back, and what is refused."""

import json
import os
from pathlib import Path

import pytest
import torch

from knowsam_lite.errors import UserError
from knowsam_lite.official.files import load_students, load_teacher, save_students, save_teacher
from knowsam_lite.official.keys import official_state
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.official.teacher import OfficialTeacher
from knowsam_lite.sam import VitBackbone

ROOT = Path(__file__).resolve().parent.parent
KEYS = Path(os.environ.get("KNOWSAM_LITE_TEST_REFERENCE", ROOT / ".." / "shared" / "reference")) / "keys"
needs_keys = pytest.mark.skipif(
    not KEYS.is_dir(), reason=f"no key lists at {KEYS}: set KNOWSAM_LITE_TEST_REFERENCE to their folder"
)
TINY = VitBackbone(
    embed_dim=32, depth=2, num_heads=2, global_blocks=(1,), prompt_dim=32, mlp_dim=64, pretrained_size=128
)


def authors_file(keys: str, path: Path) -> dict[str, torch.Tensor]:
    """A file as their training writes it: every name and shape of the list, random values."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.tensor(7)
        if name.endswith("num_batches_tracked")
        else torch.rand(shape, generator=generator)
        for name, shape in json.loads((KEYS / f"{keys}.json").read_text()).items()
    }
    torch.save(tensors, path)
    return tensors


def same(written: Path, tensors: dict[str, torch.Tensor]) -> bool:
    again = torch.load(written, weights_only=True)
    assert again.keys() == tensors.keys()
    return all(torch.equal(again[name], tensors[name]) for name in tensors)


@needs_keys
@pytest.mark.parametrize("classes", [2, 4])
def test_students_there_and_back(classes, tmp_path):
    tensors = authors_file(f"students_c{classes}", tmp_path / "SGDL_best_model.pth")
    students = load_students(tmp_path / "SGDL_best_model.pth")
    assert students.num_classes == classes and not students.training
    assert torch.equal(students.net_b.head.weight, tensors["VNet.out_conv.weight"])
    save_students(students, tmp_path / "again.pth")
    assert same(tmp_path / "again.pth", tensors)


@needs_keys
@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 4])
def test_teacher_there_and_back(classes, tmp_path):
    tensors = authors_file(f"sam_vit_b_c{classes}", tmp_path / "sam_best_model.pth")
    teacher = load_teacher(tmp_path / "sam_best_model.pth", classes)
    assert len(teacher.learnable_prompts.classes) == classes
    save_teacher(teacher, tmp_path / "again.pth")
    assert same(tmp_path / "again.pth", tensors)


@torch.inference_mode()
def test_what_is_loaded_computes_what_was_saved(tmp_path):
    torch.manual_seed(0)
    students, teacher = OfficialStudents(3).eval(), OfficialTeacher(3, 64, TINY).eval()
    x = torch.rand(1, 3, 64, 64)
    save_students(students, tmp_path / "students.pth")
    save_teacher(teacher, tmp_path / "sam.pth")
    z_f = students(x).logits_f
    assert torch.equal(load_students(tmp_path / "students.pth", 3)(x).logits_f, z_f)
    again = load_teacher(tmp_path / "sam.pth", image_size=64, backbone=TINY)
    assert torch.equal(again(x, z_f).logits, teacher(x, z_f).logits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("UNet.up1.up.bias"), r"1 faults: missing UNet.up1.up.bias"),
        (lambda t: t.update(epoch=torch.tensor(3)), r"1 faults: unexpected epoch"),
        (lambda t: t.update({"VNet.out_conv.bias": torch.zeros(5)}), r"has shape \(5,\) instead of \(2,\)"),
        (lambda t: t.update(best=0.9), r"unreadable checkpoint .*'best' is not a tensor"),
        (lambda t: t.clear(), r"another checkpoint at .*expected the authors' SGDL_best_model.pth"),
    ],
)
def test_students_that_do_not_fit_are_refused_by_name(change, words, tmp_path):
    tensors = official_state(OfficialStudents(2))
    change(tensors)
    torch.save(tensors, tmp_path / "students.pth")
    with pytest.raises(UserError, match=words) as caught:
        load_students(tmp_path / "students.pth")
    assert str(tmp_path / "students.pth") in str(caught.value) and "\n" not in str(caught.value)


def test_the_wrong_file_or_class_count_is_one_line(tmp_path):
    save_students(OfficialStudents(4), tmp_path / "students.pth")
    with pytest.raises(UserError, match=r"for 4 classes, expected 2: use it with data of 4 classes"):
        load_students(tmp_path / "students.pth", 2)
    with pytest.raises(UserError, match=r"expected the authors' sam_best_model.pth"):
        load_teacher(tmp_path / "students.pth")
    save_teacher(OfficialTeacher(2, 64, TINY), tmp_path / "sam.pth")
    with pytest.raises(UserError, match=r"expected the authors' SGDL_best_model.pth"):
        load_students(tmp_path / "sam.pth")
    with pytest.raises(UserError, match=r"does not fit \(\d+ faults"):
        load_teacher(tmp_path / "sam.pth")  # of another SAM
    (tmp_path / "sam.pth").write_bytes((tmp_path / "sam.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match="unreadable checkpoint"):
        load_teacher(tmp_path / "sam.pth", backbone=TINY)
