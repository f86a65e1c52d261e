"""Draw the attention of a model in a CT: attention rollout, attention of each text, regions of the patches.

    python tools/visualization/vis_attention.py CONFIG CHECKPOINT ct.nii.gz --text "Small right pleural effusion."
    python tools/visualization/vis_attention.py CONFIG CHECKPOINT ct.nii.gz --mask seg.nii.gz \\
        --mask-source totalsegmentator_v2
    python tools/visualization/vis_attention.py CONFIG CHECKPOINT data/ct/manifest.jsonl --case p1_a

Writes pictures (three planes through the peak of each map) and the same maps as NIfTI on the grid of the input, for
3D Slicer and ITK-SNAP. The grid of a sheared input (tilted gantry) is straightened, as NIfTI readers disagree about
sheared grids. maps.json lists the content and the peak of each file. Without --text, the texts are the steps of the
manifest's case, or the names of its regions if it has none.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctvlm.engine import ConfigOptions, quiet_warnings, run_tool
from ctvlm.utils import CTVLMError, atomic_write, check_out_folder

if TYPE_CHECKING:
    from ctvlm.anatomy import RegionScheme
    from ctvlm.apis import AttentionMaps, FeatureExtractor, ReadCase
    from ctvlm.visualization.overlay import Overlay
    from ctvlm.volume import CTVolume


UNIT = "times the mean of all patches"
ROWS = 4  # maps on a page


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the model")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("volume", help="a CT (file or DICOM folder), or a manifest (.jsonl)")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument("--case", help="case id in the manifest (default: the first case)")
    parser.add_argument("--mask", help="label map, or folder with one mask per class")
    parser.add_argument("--mask-source", help="source of the ids of a label map, such as totalsegmentator_v2")
    parser.add_argument("--text", nargs="+", metavar="TEXT", help="texts to draw the attention of")
    parser.add_argument("--out", type=Path, help="output folder (default: work_dirs/attention/<case>)")
    parser.add_argument("--device", help="default: the available accelerator, otherwise cpu")
    parser.add_argument("--dpi", type=int, default=110, help="resolution of the pictures")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def read(args: argparse.Namespace, extractor: FeatureExtractor) -> tuple[ReadCase, dict]:
    """The case, and its ``volume`` entry as in a manifest.

    Raises:
        CTVLMError: --case without a manifest, --mask with one, or an unknown case.
    """
    from ctvlm.datasets.manifest import read_manifest

    if not args.volume.lower().endswith(".jsonl"):
        if args.case:
            raise CTVLMError(f"--case {args.case}: found volume {args.volume}; expected a manifest (.jsonl)")
        return extractor.read(args.volume, args.mask, args.mask_source), dict(path=args.volume)
    if args.mask:
        raise CTVLMError(f"--mask {args.mask}: not allowed with a manifest, whose cases have their own masks")
    cases = {case["case_id"]: case for case in read_manifest(args.volume, allow_outside=args.allow_outside)}
    name = args.case or next(iter(cases))
    if name not in cases:
        raise CTVLMError(f"{args.volume}: found no case {name!r}; its cases are {', '.join(list(cases)[:10])}")
    return extractor.read.read_case(cases[name], with_text=not args.text), cases[name]["volume"]


def texts_of(args: argparse.Namespace, case: ReadCase, extractor: FeatureExtractor) -> list[str]:
    """Texts to draw: --text, the steps of the case, or the names of its regions."""
    if args.text:
        return args.text
    steps = [step.text for step in case.packed["data_samples"].steps]
    regions = list(extractor.read.scheme.regions)
    if case.region_map is not None:
        regions = [region for region in regions if (case.region_map == region.id).any()]
    return steps or [f"{region.display_name.capitalize()}." for region in regions]


def overlays_of(maps: AttentionMaps, texts: list[str], scheme: RegionScheme) -> Iterator[tuple[str, Overlay]]:
    """Yield file stem and overlay of each map."""
    from ctvlm.visualization.overlay import Overlay
    from ctvlm.volume import peak_mm

    names = {region.id: region.display_name for region in scheme.regions}

    def peak(heat: CTVolume) -> list[str]:
        at = int(heat.array.argmax())
        region = names.get(int(maps.regions.array.flat[at]))
        # Position in the notation of 3D Slicer.
        position = ", ".join(f"{sides[mm < 0]} {abs(mm):.0f}" for mm, sides in zip(peak_mm(heat), ("RL", "AP", "SI")))
        return [
            f"peak: {heat.array.max():.1f} times the mean" + (f", in the {region}" if region else ""),
            f"at {position} mm",
        ]

    if maps.rollout is not None:
        text = "Attention rollout: contribution of each patch to the embedding of the volume"
        yield "rollout", Overlay(text, maps.rollout, peak(maps.rollout), floor=1)
    if maps.regions.array.any():
        present = [names[i] for i in sorted(set(maps.regions.array.flat) - {0})]
        text = "Regions: each patch in the colour of its largest region"
        yield "regions", Overlay(text, maps.regions, [", ".join(present)])
    for number, (text, heat) in enumerate(zip(texts, maps.texts, strict=True), start=1):
        yield f"text_{number:02d}", Overlay(f"{number}. {text}", heat, peak(heat), floor=1)


def write_maps(rows: list[tuple[str, Overlay]], source: dict, out: Path, extractor: FeatureExtractor) -> bool:
    """Write maps.json and each map as NIfTI on the (straightened) grid of the input; returns whether it is sheared."""
    import numpy as np

    from ctvlm.engine import write_json
    from ctvlm.volume import patches_to_grid, peak_mm, read_grid, write_nifti
    from ctvlm.volume.orient import is_sheared, orthogonal_grid

    options = ("spacing", "axes", "key", "affine", "allow_outside")
    geometry = {key: value for key, value in source.items() if key in options}
    shape, affine = read_grid(source["path"], **geometry)
    sheared = is_sheared(affine)
    if sheared:
        shape, affine = orthogonal_grid(shape[::-1], affine)
        shape = shape[::-1]
    index = []
    for stem, overlay in rows:
        path = out / f"{stem}.nii.gz"
        entry: dict[str, Any] = dict(file=path.name, text=overlay.text)
        if overlay.is_labels:
            write_nifti(patches_to_grid(overlay.patches, affine, shape, "nearest"), path)
            entry["regions"] = {str(region.id): region.name for region in extractor.read.scheme.regions}
        else:
            # 255 steps are enough for maps on the patch grid, and reduce the file size to a tenth.
            heat, step = patches_to_grid(overlay.patches, affine, shape), float(overlay.patches.array.max()) / 255
            write_nifti(heat.with_array(np.rint(heat.array / step).astype(np.uint8)), path, slope=step)
            entry |= dict(unit=UNIT, peak=255 * step, peak_mm_ras=peak_mm(overlay.patches))
        index.append(entry)
    grid = "input, straightened" if sheared else "input"
    about = dict(volume=str(source["path"]), grid=grid, config=extractor.model.cfg.filename)
    write_json(out / "maps.json", dict(**about, maps=index))
    return sheared


def main(argv: list[str] | None = None) -> int:
    """Write pictures and maps and return the exit code."""
    args = parse_args(argv)
    from rich.console import Console

    from ctvlm.apis import FeatureExtractor, attention_maps
    from ctvlm.engine import load_config
    from ctvlm.visualization.overlay import overlay_page

    quiet_warnings()
    check_out_folder("--out", args.out or "work_dirs/attention")
    # custom_imports may name modules of projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    extractor = FeatureExtractor(load_config(args.config, args.cfg_options), args.checkpoint, args.device)
    case, source = read(args, extractor)
    texts = texts_of(args, case, extractor)
    maps = attention_maps(extractor, case, texts)
    name = re.sub(r"[^\w.,+-]+", "_", case.case_id).strip(".") or "case"
    out = args.out or Path("work_dirs/attention") / name
    rows = list(overlays_of(maps, texts, extractor.read.scheme))

    sheared = write_maps(rows, source, out, extractor)
    overview = [row for stem, row in rows if not stem.startswith("text")]
    drawn = [row for stem, row in rows if stem.startswith("text")]
    pages = {"overview": overview} if overview else {}
    pages |= {f"texts_{start // ROWS + 1:02d}": drawn[start : start + ROWS] for start in range(0, len(drawn), ROWS)}
    remark = extractor.remark_on(case)
    for stem, page in pages.items():
        figure = overlay_page(case.ct, page, case.case_id, extractor.read.scheme, UNIT, remark)
        with atomic_write(out / f"{stem}.png") as part:
            figure.savefig(part, dpi=args.dpi, facecolor=figure.get_facecolor())
    console = Console()
    if not maps.regions.array.any():
        console.print("no region map: the input has no mask and this model predicts no regions", soft_wrap=True)
    if sheared:
        console.print(
            "the grid of the input is sheared (tilted gantry): the maps are on a straightened grid, which covers "
            "the input in physical space but has other voxels",
            soft_wrap=True,
        )
    console.print(f"{len(pages)} pictures and {len(rows)} maps in {out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
