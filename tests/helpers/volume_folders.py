"""Small folders of volumes for tests: the h5 layout with its lists, and NIfTI volumes with an index."""

import json
from pathlib import Path

import numpy as np

from helpers.data_folders import write_index

CLASSES = ["background", "right ventricle", "myocardium"]
SHAPE = (4, 24, 32)  # slices, rows, columns
SPACING = (8.0, 1.5, 1.25)  # mm, in the same order


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """An image float32 in [0, 1] and labels uint8 with a box of class 1 and one of class 2 in each slice."""
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[..., 6:14, 8:16] = 1
    labels[..., 14:20, 8:16] = 2
    return image, labels


def save_h5(path: Path, image: np.ndarray, label: np.ndarray | None) -> None:
    h5py = __import__("h5py")
    with h5py.File(path, "w") as file:
        file["image"] = image
        if label is not None:
            file["label"] = label


def save_nifti(path: Path, array: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    """An array (slices, rows, columns) as NIfTI, whose axes are (x, y, z), in mm."""
    nibabel = __import__("nibabel")
    image = nibabel.Nifti1Image(array.T, np.diag([*spacing[::-1], 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def make_h5(root: Path, patients: int = 4) -> Path:
    """The h5 layout: slices of `patients` patients to train on, a volume each for val and test."""
    (root / "data/slices").mkdir(parents=True)
    names = []
    for patient in range(patients):
        image, label = volume(patient)
        for k in range(len(image)):
            names.append(f"patient{patient:03d}_frame01_slice_{k + 1}")
            save_h5(root / f"data/slices/{names[-1]}.h5", image[k], label[k])
    (root / "train_slices.list").write_text("\n".join(names) + "\n")
    for split, number in (("val", 90), ("test", 91)):
        save_h5(root / f"data/patient{number:03d}_frame01.h5", *volume(number))
        (root / f"{split}.list").write_text(f"patient{number:03d}_frame01\n")
    return root


def make_nifti(root: Path, splits: tuple[str, ...] = ("train", "train", "train", "val", "test")) -> Path:
    """NIfTI volumes with index.csv and dataset.json."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = []
    for number, split in enumerate(splits):
        image, label = volume(number)
        files = f"images/v{number}.nii.gz", f"masks/v{number}.nii.gz"
        save_nifti(root / files[0], image * 900 + 100)
        save_nifti(root / files[1], label)
        rows.append([f"v{number}", *files, f"p{number}", split])
    write_index(root, rows)
    description = {"name": "volumes", "classes": CLASSES, "mask_values": [0, 1, 2]}
    (root / "dataset.json").write_text(json.dumps(description))
    return root
