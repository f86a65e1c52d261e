"""Write phantom CTs to disk: NIfTI volumes, region and lesion maps, and a case manifest.

    python tools/dataset_converters/write_phantom.py OUT --num-cases 8 --shape 64 256 256 --seed 0

The files contain the voxels of ``PhantomCT``. Use them to try readers, converters and viewers. ``--layout ct_rate``
writes the file layout of CT-RATE (both releases, tables, region maps) for its converter; ``--tables`` copies the tables
of a real CT-RATE and uses the names in them.

    python tools/dataset_converters/write_phantom.py OUT --layout ct_rate --splits train val
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ctvlm.phantom import PhantomCT


FOLDERS = {"volume": "ct", "region_map": "regions", "lesion_map": "lesions"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="output folder; created if missing")
    parser.add_argument("--num-cases", type=int, default=8, help="number of cases per split")
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 256, 256), metavar=("D", "H", "W"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--splits", nargs="+", default=["train"], help="names of the splits to write")
    parser.add_argument("--layout", choices=("manifest", "ct_rate"), default="manifest")
    parser.add_argument("--tables", type=Path, help="ct_rate: folder of CT-RATE's own CSV files")
    parser.add_argument("--overwrite", action="store_true", help="replace the manifest of an earlier run")
    return parser.parse_args(argv)


def write_case(results: dict, out: Path) -> dict:
    """Write the three volumes of a case and return its manifest line."""
    from ctvlm.anatomy import scheme_of
    from ctvlm.utils.training_data import PHANTOM_SOURCE
    from ctvlm.volume import CTVolume, write_nifti

    name = results["case_id"]
    files = {key: out / folder / f"{name}.nii.gz" for key, folder in FOLDERS.items()}
    for key, path in files.items():
        write_nifti(CTVolume(results[key], results["affine"]), path, description=PHANTOM_SOURCE)
    copied = ("case_id", "patient_id", "split", "report", "cot", "labels")
    has_lesion = any(step["lesion"] is not None for step in results["cot"])
    return {
        **{key: results[key] for key in copied},
        "volume": str(files["volume"].resolve()),
        "region_map": {"path": str(files["region_map"].resolve()), "source": scheme_of(results).source_id},
        "lesion_masks": [{"path": str(files["lesion_map"].resolve())}] if has_lesion else [],
        "source": PHANTOM_SOURCE,
    }


def write_as_ct_rate(sets: list[PhantomCT], args: argparse.Namespace, console: Console) -> int:
    """Write the layout of CT-RATE and return the exit code."""
    from rich.progress import track

    from ctvlm.phantom.ct_rate_layout import write_ct_rate

    items = [(data, i) for data in sets for i in range(len(data))]
    try:
        names = write_ct_rate(lambda i: items[i][0].results(items[i][1]), len(items), args.out, args.tables)
        count = sum(1 for _ in track(names, "Writing phantoms", console=console))
    except FileNotFoundError as error:
        console.print(str(error), style="red")
        return 1
    console.print(f"{count} volumes of each release under {args.out / 'dataset'}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Write the phantoms and return the exit code."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import track

    from ctvlm.datasets import write_manifest
    from ctvlm.phantom import PhantomCT
    from ctvlm.utils import check_out_folder

    check_out_folder("out", args.out)
    console = Console()
    manifest = args.out / ("manifest.jsonl" if args.layout == "manifest" else "dataset")
    if manifest.exists() and not args.overwrite:
        console.print(f"{manifest} already exists. Choose another folder or pass --overwrite.", style="red")
        return 1
    try:
        sets = [
            PhantomCT(args.num_cases, args.seed, split, args.shape, cache=False, num_workers=0) for split in args.splits
        ]
    except ValueError as error:
        console.print(str(error), style="red")
        return 1
    if args.layout == "ct_rate":
        return write_as_ct_rate(sets, args, console)
    items = [(data, i) for data in sets for i in range(len(data))]
    cases = [write_case(data.results(i), args.out) for data, i in track(items, "Writing phantoms", console=console)]
    write_manifest(cases, manifest)
    console.print(f"{len(cases)} cases in {manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
