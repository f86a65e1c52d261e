"""Benchmark data loading: torchio, MONAI, ctvlm from a file, ctvlm from a store.

    python tools/analysis_tools/benchmark_data.py chest.nii.gz --shape 64 512 512
    python tools/analysis_tools/benchmark_data.py chest.nii.gz --shape 64 512 512 --formats

One process, one thread, with the file in the system cache. Every method returns a float32 tensor (1, D, H, W) in
[0, 1] of one HU window, except those marked "HU". ``--formats`` compares file formats for a store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import run_tool

if TYPE_CHECKING:
    import numpy as np
    import torch
    from rich.console import Console

    from ctvlm.volume import CTVolume


WINDOW = "soft_tissue"
TARGETS = {"ctvlm, from the file": 3.0, "ctvlm, from the store": 20.0}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path, help="CT file")
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 512, 512), metavar=("D", "H", "W"))
    parser.add_argument(
        "--crop", type=int, nargs=3, default=(32, 128, 128), metavar=("D", "H", "W"), help="window size"
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of repeats; the best one is reported")
    parser.add_argument("--formats", action="store_true", help="compare formats for the store instead")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def windowed(hu: np.ndarray) -> torch.Tensor:
    """Convert HU to one window as the data preprocessor of ctvlm does."""
    import torch

    from ctvlm.volume.windows import apply_windows

    return apply_windows(torch.from_numpy(hu)[None], [WINDOW])[0]


def torchio_pipeline(path: Path, shape: tuple[int, ...]) -> Callable[[], torch.Tensor]:
    """Return the torchio pipeline: load, Resize, Clamp, RescaleIntensity."""
    import SimpleITK as sitk
    import torchio as tio

    from ctvlm.volume.windows import resolve_window

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    centre, width = resolve_window(WINDOW)
    low, high = centre - width / 2, centre + width / 2
    transform = tio.Compose(
        [
            tio.Resize((shape[2], shape[1], shape[0])),
            tio.Clamp(low, high),
            tio.RescaleIntensity((0, 1), in_min_max=(low, high)),
        ]
    )
    return lambda: transform(tio.ScalarImage(path)).data


def monai_pipeline(path: Path, shape: tuple[int, ...]) -> Callable[[], torch.Tensor] | None:
    """Return the MONAI pipeline: load, Resize, ScaleIntensityRange; None if MONAI is not installed."""
    from ctvlm.volume.windows import resolve_window

    try:
        from monai import transforms as mt
    except ImportError:
        return None
    centre, width = resolve_window(WINDOW)
    transform = mt.Compose(
        [
            mt.LoadImage(image_only=True, ensure_channel_first=True),
            mt.Resize(tuple(shape[::-1]), mode="trilinear"),
            mt.ScaleIntensityRange(centre - width / 2, centre + width / 2, 0, 1, clip=True),
        ]
    )
    return lambda: transform(str(path))


def best_seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return (wall, CPU) seconds of the best repeat; CPU time is more reliable on a shared machine."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def compare(args: argparse.Namespace, folder: Path) -> dict:
    """Measure the seconds per case of each method."""
    from ctvlm.datasets.transforms.boxes import select_box
    from ctvlm.volume import read_ct, resample_to_shape
    from ctvlm.volume.store import SUFFIX, StoredArray, encode

    shape = tuple(args.shape)
    stored = folder / f"volume{SUFFIX}"
    stored.write_bytes(encode(resample_to_shape(read_ct(args.volume), shape)))
    array = StoredArray(stored)

    def window() -> np.ndarray:
        return array.read(select_box(shape, args.crop, "random")).array

    methods = {
        "torchio": torchio_pipeline(args.volume, shape),
        "MONAI": monai_pipeline(args.volume, shape),
        "ctvlm, from the file": lambda: windowed(resample_to_shape(read_ct(args.volume), shape).array),
        "ctvlm, from the store": lambda: windowed(StoredArray(stored).read().array),
        "ctvlm, from the store, HU only": lambda: StoredArray(stored).read().array,
        f"ctvlm, one window {tuple(args.crop)} of the store, HU": window,
    }
    results = {}
    for name, run in methods.items():
        if run is None:
            continue
        # Short runs are noisy and need more repeats.
        repeats = args.repeats * (5 if "store" in name else 1)
        results[name] = best_seconds(run, repeats)
    return results


def show(results: dict, args: argparse.Namespace, console: Console) -> None:
    """Print the table."""
    from rich.table import Table

    base = results["torchio"]
    title = f"{args.volume.name} to {tuple(args.shape)}: one process, one thread"
    table = Table("method", "wall s", "CPU s", "speedup (wall)", "speedup (CPU)", "target", title=title)
    for name, (wall, cpu) in results.items():
        target = f">= {TARGETS[name]:g}x" if name in TARGETS else ""
        table.add_row(name, f"{wall:.4f}", f"{cpu:.4f}", f"{base[0] / wall:.1f}x", f"{base[1] / cpu:.1f}x", target)
    if "MONAI" not in results:
        table.add_row("MONAI", "not installed")
    console.print(table)


def formats(args: argparse.Namespace, folder: Path) -> dict:
    """Measure size in MiB and CPU ms per random window and per volume, for each installed format."""
    import numpy as np
    import torch

    from ctvlm.datasets.transforms.boxes import select_box
    from ctvlm.volume import read_ct, resample_to_shape
    from ctvlm.volume.store import SUFFIX, StoredArray, encode

    volume = resample_to_shape(read_ct(args.volume), tuple(args.shape))
    opened: dict[str, tuple[float, Callable]] = {}
    path = folder / f"volume{SUFFIX}"
    path.write_bytes(encode(volume))
    opened["Blosc2 NDArray (.b2nd)"] = _size(path), lambda box: StoredArray(path).read(box).array
    np.save(folder / "volume.npy", volume.array)
    opened["NumPy, memory-mapped"] = (
        _size(folder / "volume.npy"),
        lambda box: np.array(np.load(folder / "volume.npy", mmap_mode="r")[box]),
    )
    opened.update(_zarr(volume, folder))
    opened.update(_hdf5(volume, folder))
    whole = tuple(slice(0, n) for n in volume.shape)
    results = {}
    for name, (size, read) in opened.items():
        if not np.array_equal(read(whole), volume.array):
            raise AssertionError(f"{name}: the volume read differs from the volume written")
        torch.manual_seed(0)
        boxes = [select_box(volume.shape, args.crop, "random") for _ in range(20)]
        times = [best_seconds(partial(read, box), 3)[1] for box in boxes]
        whole_s = best_seconds(partial(read, whole), 3)[1]
        results[name] = dict(mib=size, window_ms=1e3 * float(np.median(times)), whole_ms=1e3 * whole_s)
    return results


def _zarr(volume: CTVolume, folder: Path) -> dict:
    try:
        import zarr
        from zarr.codecs import BloscCodec
    except ImportError:
        return {}
    zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")
    chunk = tuple(min(n, c) for n, c in zip(volume.shape, (16, 64, 64)))
    shard = tuple(-(-n // c) * c for n, c in zip(volume.shape, chunk))
    out = {}
    for name, kind in (("Zarr 3, a file per chunk", None), ("Zarr 3, one shard", shard)):
        path = folder / name
        array = zarr.create_array(
            str(path), shape=volume.shape, dtype=volume.array.dtype, chunks=chunk, shards=kind, compressors=codec
        )
        array[...] = volume.array
        out[name] = _size(path), lambda box, path=path: zarr.open_array(str(path), mode="r")[box]
    return out


def _hdf5(volume: CTVolume, folder: Path) -> dict:
    try:
        import h5py
    except ImportError:
        return {}
    path = folder / "volume.h5"
    chunk = tuple(min(n, c) for n, c in zip(volume.shape, (16, 64, 64)))
    with h5py.File(path, "w") as file:
        file.create_dataset("volume", data=volume.array, chunks=chunk, compression="gzip", shuffle=True)

    def read(box) -> np.ndarray:
        with h5py.File(path) as file:
            return file["volume"][box]

    return {"HDF5, gzip": (_size(path), read)}


def _size(path: Path) -> float:
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()) / 2**20


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ctvlm.engine import write_json
    from ctvlm.volume.store import BLOCK, CHUNK

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    with tempfile.TemporaryDirectory() as name:
        if args.formats:
            results = formats(args, Path(name))
            table = Table("format", "MiB", f"window {tuple(args.crop)}, ms", "whole, ms")
            for row, f in results.items():
                table.add_row(row, f"{f['mib']:.1f}", f"{f['window_ms']:.2f}", f"{f['whole_ms']:.0f}")
            table.caption = f"Blosc2: chunks {CHUNK}, blocks {BLOCK}; others: chunks (16, 64, 64); CPU time"
            console.print(table)
        else:
            results = compare(args, Path(name))
            show(results, args, console)
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    sys.exit(run_tool(main))
