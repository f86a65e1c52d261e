"""Random patients: body size, organs, contrast phase and scanner settings, all sampled from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PHASES = ("non_contrast", "arterial", "venous")

# HU of blood and parenchyma by contrast phase, before random variation per patient.
ENHANCEMENT: dict[str, dict[str, float]] = {
    "non_contrast": dict(aorta=42, left_heart=40, right_heart=40, pulmonary=42, veins=40, portal=40, myocardium=44,
                         liver=56, spleen=48, kidney=34, pancreas=38, thyroid=105, wall=38),
    "arterial": dict(aorta=300, left_heart=280, right_heart=170, pulmonary=210, veins=190, portal=60, myocardium=95,
                     liver=68, spleen=105, kidney=135, pancreas=90, thyroid=165, wall=62),
    "venous": dict(aorta=155, left_heart=150, right_heart=145, pulmonary=148, veins=145, portal=170, myocardium=105,
                   liver=110, spleen=118, kidney=175, pancreas=88, thyroid=150, wall=70),
}  # fmt: skip


@dataclass(frozen=True)
class Warp:
    """Smooth in-plane displacement (mm): a small rotation plus three separable waves for each of x and y."""

    angle: float
    amplitude: np.ndarray  # (2, 3) mm
    frequency: np.ndarray  # (2, 3, 3) rad / mm, along x, y, z
    phase: np.ndarray  # (2, 3, 3) rad

    def grid(self, tx: np.ndarray, ty: np.ndarray, tz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Displacement of x and y (D, H, W) on the grid of three coordinate vectors."""
        shape = (len(tz), len(ty), len(tx))
        out = []
        for c in range(2):
            total = np.empty(shape, np.float32)
            total[...] = -self.angle * ty[:, None] if c == 0 else self.angle * tx
            for k in range(3):
                fx, fy, fz = (
                    np.sin(a * self.frequency[c, k, i] + self.phase[c, k, i]) for i, a in enumerate((tx, ty, tz))
                )
                plane = (self.amplitude[c, k] * fy[:, None] * fx).astype(np.float32)
                total += fz.astype(np.float32)[:, None, None] * plane
            out.append(total)
        return out[0], out[1]

    def at(self, points: np.ndarray) -> np.ndarray:
        """Displacement (N, 2) at ``points`` (N, 3), columns x, y, z."""
        waves = np.sin(points[:, None, None, :] * self.frequency + self.phase).prod(-1)
        shift = (waves * self.amplitude).sum(-1)
        shift[:, 0] -= self.angle * points[:, 1]
        shift[:, 1] += self.angle * points[:, 0]
        return shift

    def at_point(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Displacement at one point, computed with Python floats."""
        sin = math.sin
        shift = []
        for amplitude, frequency, phase in self._plain:
            total = 0.0
            for a, (fx, fy, fz), (px, py, pz) in zip(amplitude, frequency, phase, strict=True):
                total += a * sin(x * fx + px) * sin(y * fy + py) * sin(z * fz + pz)
            shift.append(total)
        return shift[0] - self.angle * y, shift[1] + self.angle * x

    @cached_property
    def _plain(self) -> list[tuple[list, list, list]]:
        return list(zip(self.amplitude.tolist(), self.frequency.tolist(), self.phase.tolist(), strict=True))


@dataclass(frozen=True)
class Patient:
    """One patient in one scanner. Lengths are in template mm unless stated otherwise."""

    scale: tuple[float, float, float]  # physical mm per template mm, z y x
    warp: Warp
    scan_z: tuple[float, float]  # physical mm, lower and upper end of the scan
    fov: float  # physical mm, square
    fov_center: tuple[float, float]  # physical mm, y x
    female: bool
    fat: float  # subcutaneous fat
    visceral: float  # 0 lean .. 1 obese: fat around organs and heart
    phase: str
    hu: dict[str, float]
    lung_hu: float
    noise: float  # HU, at 3.6 mm voxels
    blur: float  # fraction of a voxel's signal that spreads to its in-plane neighbours
    table_y: float
    dome: tuple[float, float]  # height of the right and left hemidiaphragm
    fissure: tuple[float, float, float]  # shifts of the right oblique, horizontal and left oblique fissure
    shift: dict[str, np.ndarray]  # organ name to displacement (x, y, z)
    # Sizes relative to the template; findings that enlarge an organ change them.
    size: dict[str, float]
    bone: float
    gas: float  # height of the gas level in the stomach above its centre, as a fraction of its radius
    arms: bool
    texture_seed: int
    side: int = 0  # 1 or -1 if the scan shows only the right or the left side of the body

    @property
    def template_z(self) -> tuple[float, float]:
        """Lower and upper end of the scan in template mm."""
        return self.scan_z[0] / self.scale[0], self.scan_z[1] / self.scale[0]


SHIFTED = {  # organ: standard deviation (x, y, z) of its position
    "heart": (4, 4, 4), "arch": (3, 3, 5), "liver": (4, 3, 5), "gallbladder": (9, 7, 6), "spleen": (3, 5, 8),
    "stomach": (6, 5, 6), "pancreas": (4, 4, 6), "kidney_right": (4, 4, 7), "kidney_left": (4, 4, 7),
    "trachea": (2, 2, 4), "thyroid": (1.5, 2, 4), "esophagus": (2, 2, 0),
}  # fmt: skip


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c


def sample_patient(rng: np.random.Generator) -> Patient:
    """Sample an anatomically plausible patient."""
    female = bool(rng.random() < 0.5)
    build = rng.normal(0.95 if female else 1.02, 0.035)
    scale = _triple(np.clip(build * rng.normal(1, s), 0.84, 1.16) for s in (0.03, 0.04, 0.035))
    fat = float(np.clip(rng.gamma(4, 4.5) + 4, 6, 42))
    visceral = float(np.clip((fat - 6) / 30 + rng.normal(0, 0.2), 0, 1))
    wavelength = rng.uniform(170, 380, (2, 3, 3))
    warp = Warp(
        angle=float(np.deg2rad(rng.normal(0, 1.6))),
        amplitude=rng.uniform(1.5, 4.0, (2, 3)) * rng.choice([-1, 1], (2, 3)),
        frequency=2 * np.pi / wavelength,
        phase=rng.uniform(0, 2 * np.pi, (2, 3, 3)),
    )
    # Scans start at the lower neck or the lung apices and end at the adrenals or below the kidneys.
    bottom = rng.choice([rng.uniform(-165, -135), rng.uniform(-135, -95)], p=[0.7, 0.3])
    top = rng.choice([rng.uniform(186, 212), rng.uniform(158, 186)], p=[0.65, 0.35])
    phase = PHASES[rng.choice(3, p=[0.45, 0.2, 0.35])]
    hu = {k: v * (1 + rng.normal(0, 0.10)) + rng.normal(0, 3) for k, v in ENHANCEMENT[phase].items()}
    hu["liver"] = max(hu["liver"], hu["spleen"] + 4) if phase == "non_contrast" else hu["liver"]
    fov = float(np.clip(2 * (162 + 0.45 * fat) * scale[2] + rng.normal(12, 14), 310, 430))
    return Patient(
        scale=scale,
        warp=warp,
        scan_z=(float(bottom) * scale[0], float(top) * scale[0]),
        fov=fov,
        fov_center=(float(rng.normal(-8, 5)), float(rng.normal(0, 5))),
        female=female,
        fat=fat,
        visceral=visceral,
        phase=phase,
        hu=hu,
        lung_hu=float(rng.normal(-845, 22)),
        noise=float(rng.uniform(7, 22)),
        blur=float(rng.uniform(0.02, 0.09)),
        table_y=float(rng.uniform(-12, -2)),
        dome=(float(rng.normal(0, 5)), float(rng.normal(-13, 6))),
        fissure=_triple(rng.normal(0, (6, 6, 6))),
        shift={k: rng.normal(0, s).astype(np.float32) for k, s in SHIFTED.items()},
        size={
            **{k: float(np.clip(rng.normal(1, 0.06), 0.86, 1.14)) for k in ("heart", "liver", "spleen", "stomach",
               "kidney_right", "kidney_left", "gallbladder", "pancreas", "thyroid", "vertebra", "esophagus")},
            "aorta_ascending": float(rng.normal(1, 0.05)), "aorta_descending": float(rng.normal(1, 0.05)),
            "aorta_abdominal": float(rng.normal(1, 0.05)),
        },
        bone=float(rng.normal(1, 0.12)),
        gas=float(rng.uniform(-0.1, 0.75)),
        arms=bool(rng.random() < 0.12),
        texture_seed=int(rng.integers(2**31)),
    )  # fmt: skip
