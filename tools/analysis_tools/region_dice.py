"""Hold the regions that a model predicts on bare CTs against their masks.

    python tools/dataset_converters/folder_to_manifest.py FOLDER cts.jsonl
    python tools/analysis_tools/region_dice.py configs/vit3d_cot_contrastive_bare.py epoch_7.pth cts.jsonl

The CTs go through the test pipeline of the config, and the model never sees a mask. Its region map is brought back to
each CT's own grid (nearest neighbour) and compared with the mask as it lies on disk. A mask coarser than the scheme
("lung" for five lobes) is compared with the union of its regions; where a map has the parts, the union is a row too.
Regions of less than 1 ml in the mask are left out. What a map does not mark counts as background of the regions it
does mark, and nothing is said of the others. Weights trained on phantoms only are measured without a warning: the masks
are true, so the Dice shows how well regions transfer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from rich.table import Table

from ctvlm.anatomy import RegionScheme, scheme_of
from ctvlm.apis import init_model
from ctvlm.datasets.manifest import read_manifest
from ctvlm.datasets.transforms import LoadCT, LoadStore
from ctvlm.engine import ConfigError, ConfigOptions, load_config, quiet_warnings, run_tool, write_json
from ctvlm.engine.cli.console import stdout_console
from ctvlm.evaluation.functional.localisation import mask_dice
from ctvlm.registry import TRANSFORMS
from ctvlm.utils import CTVLMError
from ctvlm.volume import CTVolume
from ctvlm.volume.resample import resample_to_grid

LEAST_ML = 1.0
UNIONS = ("lung", "kidney")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config whose model predicts a region map (VoxelSegmentationHead, say)")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("manifest", help="case manifest with region maps")
    parser.add_argument("--split", help="keep these cases only")
    parser.add_argument("--device", help="default: the accelerator that there is, else the CPU")
    parser.add_argument("--out", help="write the figures to this .json file")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def bare_pipeline(cfg: Config) -> list:
    """The transforms of the test pipeline after reading, but for those that write text from a map."""
    built = [TRANSFORMS.build(step) for step in cfg.test_dataloader.dataset.pipeline]
    return [t for t in built if not isinstance(t, (LoadCT, LoadStore)) and not getattr(t, "writes_text", False)]


def predicted_map(model: torch.nn.Module, pipeline: list, case: dict) -> np.ndarray:
    """Region ids on the CT's own grid (D, H, W), from the CT alone."""
    results = {**case, "region_map": None, "lesion_map": None, "coarse_masks": {}}
    for transform in pipeline:
        results = transform(results)
    with torch.no_grad():
        sample = model.test_step(pseudo_collate([results]))[0]
    if "pred_region_map" not in sample:
        raise ConfigError(
            "the model predicts no region map: give it a head that does, such as "
            "model.auxiliary=dict(voxels=dict(type='VoxelSegmentationHead'))"
        )
    predicted = CTVolume(np.asarray(sample.pred_region_map), np.asarray(sample.affine))
    return resample_to_grid(predicted, case["affine"], case["volume"].shape, "nearest").array


def true_masks(case: dict, scheme: RegionScheme) -> Iterator[tuple[str, tuple[int, ...], np.ndarray]]:
    """Name, region ids and mask of what is known of a case."""
    region_map = case["region_map"]
    if region_map is not None:
        marked = [int(i) for i in np.unique(region_map) if i > 0]
        for i in marked:
            yield scheme.name_of(i), (i,), region_map == i
        for name in UNIONS:
            ids = scheme.ids_of_class(name)
            if len(set(ids).intersection(marked)) > 1:
                yield name, ids, np.isin(region_map, ids)
    for name, mask in case["coarse_masks"].items():
        yield name, scheme.ids_of_class(name), mask


def main(argv: list[str] | None = None) -> int:
    """Predict, compare, print; returns the exit code."""
    args = parse_args(argv)
    quiet_warnings()
    # custom_imports name modules of projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cfg = load_config(args.config, args.cfg_options)
    cases = [case for case in read_manifest(args.manifest, args.split) if case["region_map"]]
    if not cases:
        raise CTVLMError(f"no case of {args.manifest} has a region map: there is nothing to compare with")
    model, pipeline = init_model(cfg, args.checkpoint, device=args.device), bare_pipeline(cfg)
    scheme, load = scheme_of(cfg.test_dataloader.dataset), LoadCT()
    table = Table("case", "region", "ml", "predicted ml", "Dice", title="regions predicted from bare CTs")
    found: dict[str, dict[str, float]] = {}
    for entry in cases:
        case = load({**entry, "scheme": scheme.reference})
        predicted, voxel_ml = predicted_map(model, pipeline, case), CTVolume(case["volume"], case["affine"]).voxel_ml
        figures = found.setdefault(case["case_id"], {})
        for name, ids, mask in true_masks(case, scheme):
            if mask.sum() * voxel_ml < LEAST_ML:
                continue
            marked = np.isin(predicted, ids)
            figures[name] = mask_dice(marked, mask)
            row = (f"{mask.sum() * voxel_ml:.0f}", f"{marked.sum() * voxel_ml:.0f}", f"{figures[name]:.2f}")
            table.add_row(case["case_id"], name, *row)
        table.add_section()
    stdout_console().print(table)
    if args.out:
        write_json(args.out, {"config": args.config, "checkpoint": args.checkpoint, "dice": found})
        print(f"figures written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
