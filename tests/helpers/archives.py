"""Small archives in the published layouts, and hostile ones."""

import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    """A zip file of these members; the same members give the same bytes, whatever the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    """A tar file of these members."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tar_entry(path: Path, name: str, kind: bytes, link: str = "") -> Path:
    """A tar file with one entry of this type."""
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return path


def zip_link(path: Path, name: str, target: str) -> Path:
    """A zip file with a symbolic link."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, target)
    return path


def encrypted(path: Path) -> Path:
    """A zip file whose headers say that its member is encrypted."""
    zip_of(path, {"a.png": b"x" * 50})
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    path.write_bytes(bytes(data))
    return path


def encoded(array: np.ndarray, form: str = "PNG", **options: int) -> bytes:
    """The array as a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def image(seed: int, size: tuple[int, int] = (24, 32), form: str = "PNG") -> bytes:
    """A smooth random RGB picture."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    return encoded(np.asarray(picture), form)


def mask(seed: int, size: tuple[int, int] = (24, 32), form: str = "PNG", value: int = 255) -> bytes:
    """A grey picture with a rectangle of `value` on 0."""
    y, x = seed % 8 + 2, seed % 11 + 3
    array = np.zeros(size, np.uint8)
    array[y : y + 9, x : x + 12] = value
    return encoded(array, form)


def kvasir(count: int = 12, size: tuple[int, int] = (24, 32)) -> dict[str, bytes]:
    files = {}
    for i in range(count):
        files[f"Kvasir-SEG/images/cju{i:04d}.jpg"] = image(i, size, "JPEG")
        files[f"Kvasir-SEG/masks/cju{i:04d}.jpg"] = mask(i, size, "JPEG")
    return files | {"Kvasir-SEG/kavsir_bboxes.json": b"{}"}


def polyp_train(count: int = 8) -> dict[str, bytes]:
    files = {}
    for i in range(count):
        files[f"TrainDataset/image/{i}.png"] = image(i)
        files[f"TrainDataset/mask/{i}.png"] = mask(i)
    return files


def polyp_test(count: int = 2) -> dict[str, bytes]:
    files = {}
    for name in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"):
        for i in range(count):
            files[f"TestDataset/{name}/images/{i}.png"] = image(50 + i)
            files[f"TestDataset/{name}/masks/{i}.png"] = mask(50 + i)
    return files


def isic(part: str, count: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    ids = [f"ISIC_{number:07d}" for number in range(count)]
    offset = {"Training": 0, "Validation": 10_000, "Test": 20_000}[part]
    ids = [f"ISIC_{offset + number:07d}" for number in range(count)]
    images = {
        f"ISIC2018_Task1-2_{part}_Input/{name}.jpg": image(i, form="JPEG") for i, name in enumerate(ids)
    }
    masks = {
        f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png": mask(i) for i, name in enumerate(ids)
    }
    return images | {f"ISIC2018_Task1-2_{part}_Input/ATTRIBUTION.txt": b"cite"}, masks


def thyroid(count: int = 8) -> dict[str, bytes]:
    files = {}
    for part, number in (("trainval", count), ("test", 3)):
        for i in range(number):
            files[f"Thyroid Dataset/tn3k/{part}-image/{i:04d}.jpg"] = image(i, form="JPEG")
            files[f"Thyroid Dataset/tn3k/{part}-mask/{i:04d}.jpg"] = mask(i, form="JPEG")
    for i in range(6):
        files[f"Thyroid Dataset/tg3k/thyroid-image/{i:04d}.jpg"] = image(30 + i, form="JPEG")
        files[f"Thyroid Dataset/tg3k/thyroid-mask/{i:04d}.jpg"] = mask(30 + i, form="JPEG")
    lists = {"train": [0, 1, 2, 3], "val": [4, 5]}
    files["Thyroid Dataset/tg3k/tg3k-trainval.json"] = json.dumps(lists).encode()
    for i in range(1, 4):
        files[f"Thyroid Dataset/DDTI dataset/DDTI/1_or_data/image/{i}.PNG"] = image(60 + i)
        files[f"Thyroid Dataset/DDTI dataset/DDTI/1_or_data/mask/{i}.PNG"] = mask(60 + i)
    return files


def busi(count: int = 8) -> dict[str, bytes]:
    files = {}
    for kind in ("benign", "malignant", "normal"):
        for i in range(1, count + 1):
            start = f"Dataset_BUSI_with_GT/{kind}/{kind} ({i})"
            files[f"{start}.png"] = image(i, (20 + i, 40))
            value = 0 if kind == "normal" else 255
            files[f"{start}_mask.png"] = mask(i, (20 + i, 40), value=value)
    second = np.zeros((21, 40), np.uint8)
    second[0:2, 30:38] = 255
    return files | {"Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png": encoded(second)}


def bcss(side: int = 600) -> dict[str, bytes]:
    files = {}
    for i, institute in enumerate(("A1", "A2", "AC", "AR", "BH", "OL", "GM")):
        name = f"TCGA-{institute}-A0S{i}-DX1_xmin{i}_ymin2_MPP-0.2500.png"
        codes = np.zeros((side, side), np.uint8)
        codes[:300, :280] = 20  # DCIS in the first tile
        codes[256:520, 256:] = 11  # other immune infiltrate in the last
        codes[260:264, 260:264] = 13  # normal acinus: other
        files[f"rgbs_colorNormalized/{name}"] = image(i, (side, side))
        files[f"masks/{name}"] = encoded(codes)
    return files


def nifti(array: np.ndarray, spacing: tuple[float, float, float] = (1.5, 1.25, 10.0)) -> bytes:
    """The array (x, y, z) as a .nii.gz file, in mm."""
    import gzip

    import nibabel

    image = nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes())


def heart(seed: int, frame: int, size: tuple[int, int, int] = (20, 24, 3)) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its labels 0..3, both (x, y, z), int16 and uint8."""
    rng = np.random.default_rng([seed, frame])
    labels = np.zeros(size, np.uint8)
    labels[4:9, 5:15], labels[10:13, 5:15], labels[13:18, 5:15] = 1, 2, 3
    labels[..., -1] = 0
    return (rng.integers(0, 300, size) + 200 * labels).astype(np.int16), labels


def acdc(training: int = 10, testing: int = 2) -> dict[str, bytes]:
    files = {}
    for number in range(1, training + testing + 1):
        part, patient = ("training" if number <= training else "testing"), f"patient{number:03d}"
        start = f"ACDC/database/{part}/{patient}"
        files[f"{start}/Info.cfg"] = b"ED: 1"
        files[f"{start}/{patient}_4d.nii.gz"] = b"not read"
        for frame in (1, 12):
            volume, labels = heart(number, frame)
            files[f"{start}/{patient}_frame{frame:02d}.nii.gz"] = nifti(volume)
            files[f"{start}/{patient}_frame{frame:02d}_gt.nii.gz"] = nifti(labels)
    return files


def acdc_h5(root: Path) -> Path:
    """The h5 layout: six slices of two patients to train on, a volume each to validate and to test."""
    import h5py

    lists: dict[str, list[str]] = {"train_slices.list": [], "val.list": [], "test.list": []}
    (root / "data/slices").mkdir(parents=True)
    for number, (name, file) in enumerate(
        [("train_slices.list", ""), ("train_slices.list", ""), ("val.list", "v"), ("test.list", "t")], start=1
    ):
        volume, labels = (a.transpose(2, 1, 0) for a in heart(number, 1))  # (z, y, x)
        picture = (volume / volume.max()).astype(np.float32)
        case = f"patient{number:03d}_frame01"
        for index in range(1, 1 if file else 4):
            with h5py.File(root / f"data/slices/{case}_slice_{index}.h5", "w") as out:
                out["image"], out["label"] = picture[index - 1], labels[index - 1]
            lists[name].append(f"{case}_slice_{index}")
        if file:
            with h5py.File(root / f"data/{case}.h5", "w") as out:
                out["image"], out["label"] = picture, labels
            lists[name].append(case)
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root
