"""Write an image of each case: three planes, windows, region outlines with names, spacing, text.

    python tools/visualization/browse_dataset.py data/ct/manifest.jsonl --out work_dirs/browse -n 20
    python tools/visualization/browse_dataset.py configs/vit3d_cot_contrastive.py --split val

Cases of a manifest are shown as on disk. Cases of a config are shown after all transforms of its pipeline, including
augmentations, except packing. Slices are numbered from 1, towards the head, the front and the right of the patient.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ctvlm.anatomy import DEFAULT_SCHEME
from ctvlm.engine import quiet_warnings, run_tool
from ctvlm.utils import CTVLMError, atomic_write, check_out_folder


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a config (.py) or a manifest (.jsonl)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/browse"), help="output folder")
    parser.add_argument("--split", help="split of the manifest, or train, val, test of the config (default: train)")
    parser.add_argument("-n", "--num", type=int, default=12, help="cases to draw (0: all)")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument("--cases", nargs="*", help="ids of the cases to draw")
    parser.add_argument(
        "--windows", nargs="+", default=[], metavar="NAME", help="lung, soft_tissue, bone, brain; default: by content"
    )
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme of a manifest: name or path")
    parser.add_argument("--seed", type=int, default=0, help="seed of the augmentations of a config")
    parser.add_argument("--dpi", type=int, default=110)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def from_manifest(args: argparse.Namespace) -> Iterator[dict]:
    """Load the cases of a manifest."""
    from ctvlm.datasets.manifest import read_manifest
    from ctvlm.datasets.transforms import LoadCT, LoadStore
    from ctvlm.volume.store import SUFFIX

    cases = read_manifest(args.source, args.split, allow_outside=args.allow_outside)
    selected = [c for c in cases if not args.cases or c["case_id"] in args.cases]
    for case in selected[: args.num or None] if not args.cases else selected:
        load = LoadStore() if case["volume"]["path"].lower().endswith(SUFFIX) else LoadCT()
        yield load({**case, "scheme": args.scheme})


def from_config(args: argparse.Namespace) -> Iterator[dict]:
    """Load the cases of a config after all transforms except packing."""
    from ctvlm.datasets.transforms import PackCTInputs
    from ctvlm.engine import load_config
    from ctvlm.registry import DATASETS
    from ctvlm.utils import seed_everything

    cfg = load_config(args.source)
    split = args.split or "train"
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise CTVLMError(f"{args.source}: found no {split}_dataloader; set --split to train, val or test")
    data = DATASETS.build({**loader.dataset, "lazy_init": False})
    steps = [t for t in data.pipeline.transforms if not isinstance(t, PackCTInputs)]
    seed_everything(args.seed)
    count = 0
    for index in range(len(data)):
        if args.cases and data.get_data_info(index).get("case_id") not in args.cases:
            continue
        results = data.results(index) if hasattr(data, "results") else data.get_data_info(index)
        for step in steps:
            results = step(results)
        yield results
        count += 1
        if not args.cases and args.num and count >= args.num:
            return


def main(argv: list[str] | None = None) -> int:
    """Write the images; returns the exit code."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import track

    from ctvlm.visualization.montage import montage
    from ctvlm.volume.windows import resolve_window

    quiet_warnings()
    check_out_folder("--out", args.out)
    for name in args.windows:
        resolve_window(name)
    console = Console()
    cases = from_config(args) if args.source.endswith(".py") else from_manifest(args)
    count = 0
    for results in track(cases, "drawing", total=args.num or None, console=console, transient=True):
        name = re.sub(r"[^\w.,+-]+", "_", results["case_id"]).strip(".") or "case"
        figure = montage(results, tuple(args.windows))
        with atomic_write(args.out / f"{name}.png") as part:
            figure.savefig(part, dpi=args.dpi, facecolor=figure.get_facecolor())
        count += 1
    if not count:
        raise CTVLMError(f"{args.source}: found no matching case; --cases expects case ids of the manifest")
    console.print(f"{count} images in {args.out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
