"""Synthetic cardiac MR: short-axis slices from base to apex, the heart among look-alike organs."""

from dataclasses import dataclass

import cv2
import numpy as np

from knowsam_lite.data.textures import Rng, blob, fractal, grid, inside, smooth_noise, specks

RIGHT, MUSCLE, LEFT = 1, 2, 3


@dataclass(frozen=True)
class Patient:
    """What all slices of one patient share; lengths in fractions of the side, intensities in [0, 1]."""

    center: tuple[float, float]
    turn: float  # angle of the axis from the left to the right ventricle, radians
    radius: float  # of the left cavity at the base
    wall: float  # thickness of the muscle, in cavity radii
    right: float  # width of the right cavity, in left radii
    blood: float
    muscle: float
    fat: float
    liver: float
    coil: float  # how fast the brightness falls off from the front of the chest
    noise: float  # standard deviation
    anatomy: int  # seed of the surrounding organs


def draw(rng: Rng, size: int, position: float) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (S, S, 3), grey, and mask uint8 (S, S): 1 right ventricle, 2 muscle, 3 left ventricle.

    `rng` is the patient's generator; `position` goes from 0 at the base to 1 at the apex.
    """
    patient = _patient(rng)
    local = np.random.default_rng([int(rng.integers(2**31)), round(position * 1000)])
    image = _organs(patient, size, position)
    mask = _heart(patient, local, size, position, image)
    x, y = grid(size)
    coil = np.exp(-((x - 0.45) ** 2 + (y - 0.25) ** 2) * patient.coil)  # surface coils see near tissue better
    image = image * coil * np.float32(local.uniform(0.9, 1.1))
    image = cv2.GaussianBlur(image, (0, 0), local.uniform(0.35, 0.7) * size / 64)
    noise = patient.noise * local.standard_normal((2, size, size), dtype=np.float32)
    image = np.hypot(image + noise[0], noise[1])  # Rician, as in magnitude images
    grey = np.clip(np.round(image * 255), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), mask


def _patient(rng: Rng) -> Patient:
    blood = rng.uniform(0.5, 0.95)
    return Patient(
        center=(rng.uniform(0.38, 0.64), rng.uniform(0.36, 0.6)),
        turn=rng.uniform(2.3, 3.9),
        radius=rng.uniform(0.065, 0.125),
        wall=rng.uniform(0.35, 0.75),
        right=rng.uniform(0.9, 1.5),
        blood=blood,
        muscle=blood * rng.uniform(0.25, 0.6),
        fat=rng.uniform(0.6, 1.0),
        liver=rng.uniform(0.2, 0.65),
        coil=rng.uniform(0.3, 3.0),
        noise=rng.uniform(0.02, 0.06),
        anatomy=int(rng.integers(2**31)),
    )


def _organs(patient: Patient, size: int, position: float) -> np.ndarray:
    """The chest (S, S): fat, black lungs, liver, spine, aorta, stomach; it changes slowly along the axis."""
    rng = np.random.default_rng(patient.anatomy)
    drift = 0.06 * (position - 0.5)
    image = np.full((size, size), 0.02, np.float32)
    chest = blob(rng, size, (0.5, 0.52), rng.uniform(0.4, 0.6), rng.uniform(1, 1.3), 0.05)
    image += inside(chest, 0.06) * (patient.fat - image)
    image += inside(chest * rng.uniform(1.08, 1.2), 0.06) * (0.5 * patient.muscle + 0.12 - image)
    for side in (-1, 1):
        lung = blob(
            rng, size, (0.5 + side * rng.uniform(0.2, 0.27), 0.42 + drift), rng.uniform(0.17, 0.24), 1.2, 0.12
        )
        image += inside(lung, 0.15) * (rng.uniform(0.03, 0.08) - image)
    liver = blob(rng, size, (rng.uniform(0.2, 0.4), 0.75 - 2 * drift), rng.uniform(0.14, 0.22), 1.4, 0.15)
    image += inside(liver, 0.12) * (patient.liver * (1 + 0.08 * fractal(rng, size, 8, 2)) - image)
    stomach = blob(rng, size, (rng.uniform(0.6, 0.78), 0.72 - drift), rng.uniform(0.07, 0.13), 1.3, 0.15)
    image += inside(stomach, 0.15) * (rng.uniform(0.1, 0.9) - image)
    image += rng.uniform(0.1, 0.35) * np.exp(-(((stomach - 1) / 0.2) ** 2))
    spine = blob(rng, size, (0.5 + rng.normal(0, 0.03), 0.84), rng.uniform(0.06, 0.09), 1.2, 0.08)
    image += inside(spine, 0.2) * (rng.uniform(0.3, 0.55) - image)
    for _ in range(
        rng.integers(1, 4)
    ):  # aorta, vena cava and others: as bright and round as the left ventricle
        vessel = blob(
            rng,
            size,
            (rng.uniform(0.35, 0.68), rng.uniform(0.66, 0.78)),
            rng.uniform(0.025, 0.045),
            1.0,
            0.04,
        )
        image += inside(vessel, 0.3) * (patient.blood * rng.uniform(0.8, 1.1) - image)
    return image * (1 + 0.07 * fractal(rng, size, 6, 3))


def _heart(patient: Patient, rng: Rng, size: int, position: float, image: np.ndarray) -> np.ndarray:
    """Paints fat, right ventricle, muscle ring and left cavity into `image`; returns the mask (S, S)."""
    shape = np.random.default_rng(patient.anatomy + 1)  # the same outline in every slice
    shrink = float(np.sqrt(max(0.04, 1 - 0.93 * position**1.6)))
    radius = patient.radius * shrink
    cx, cy = (
        np.array(patient.center) + 0.05 * (position - 0.5) + rng.normal(0, 0.006, 2)
    )  # breathing between slices
    wall = 1 + patient.wall / max(shrink, 0.45)
    left = blob(shape, size, (cx, cy), radius, shape.uniform(1, 1.25), 0.04)
    axis = np.array([np.cos(patient.turn), np.sin(patient.turn)])
    reach = radius * wall * 0.95
    right_place = (cx + axis[0] * reach, cy + axis[1] * reach)
    right_size = patient.radius * patient.right * max(0.0, 1 - 1.15 * position) ** 0.6 * 1.15
    pericard = inside(
        blob(
            shape, size, (cx + axis[0] * reach / 3, cy + axis[1] * reach / 3), radius * wall * 1.6, 1.2, 0.1
        ),
        0.2,
    )
    image += 0.8 * pericard * (patient.fat * 0.45 - image)
    mask = np.zeros((size, size), np.uint8)
    blood = patient.blood * (1 + 0.1 * smooth_noise(rng, size, 7))
    if right_size > 0.02:
        right = blob(shape, size, right_place, right_size, shape.uniform(1.1, 1.5), 0.12)
        image += inside(right * 0.88, 0.15) * (patient.muscle - image)
        image += inside(right, 0.2) * (blood * shape.uniform(0.8, 1.05) - image)
        mask[right < 1] = RIGHT
    image += inside(left / wall, 0.12) * (patient.muscle * (1 + 0.12 * smooth_noise(rng, size, 12)) - image)
    mask[left < wall] = MUSCLE
    image += inside(left, 0.25) * (blood - image)
    mask[left < 1] = LEFT
    papillary = specks(rng, size, 40, (0.008, 0.02)) * ((left > 0.35) & (left < 0.95))
    image += 0.7 * papillary * (patient.muscle - image)  # counted as cavity, as in the public sets
    return mask
