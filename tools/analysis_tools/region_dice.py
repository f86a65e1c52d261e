"""Dice of the regions that a model predicts from CTs without masks.

    python tools/dataset_converters/folder_to_manifest.py FOLDER cts.jsonl
    python tools/analysis_tools/region_dice.py configs/vit3d_cot_contrastive_bare.py epoch_8.pth cts.jsonl

The CTs are processed by the test pipeline of the config, and the model gets no masks. Its region map is resampled to
the grid of the CT file (nearest neighbour) and compared with the mask in the file. A mask that is coarser than the
scheme ("lung" for five lobes) is compared with the union of its regions; if a map contains the parts, the union has a
row as well. Regions below 1 ml in the mask are excluded. Regions that a map does not contain are not scored. There is
no warning about weights trained on phantoms only, because the Dice measures the transfer to real masks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import ConfigError, ConfigOptions, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console
from ctvlm.utils import CTVLMError, check_out_file

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config
    from mmengine.model import BaseModel

    from ctvlm.anatomy import RegionScheme


MIN_ML = 1.0
UNIONS = ("lung", "kidney")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "config", help="config of a model that predicts a region map, for example by VoxelSegmentationHead"
    )
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("manifest", help="case manifest with region maps")
    parser.add_argument("--split", help="use only the cases of this split")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument("--device", help="default: an accelerator if available, else the CPU")
    parser.add_argument("--out", help="write the scores to this .json file")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1 c=[2,3]"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def build_pipeline(cfg: Config) -> list:
    """The test pipeline without transforms that read files or write text from a region map."""
    from ctvlm.datasets.transforms import LoadCT, LoadStore
    from ctvlm.registry import TRANSFORMS

    transforms = [TRANSFORMS.build(step) for step in cfg.test_dataloader.dataset.pipeline]
    return [t for t in transforms if not isinstance(t, (LoadCT, LoadStore)) and not getattr(t, "writes_text", False)]


def predicted_map(model: BaseModel, pipeline: list, case: dict) -> np.ndarray:
    """Region ids predicted from the CT without masks, on the grid of the CT file (D, H, W)."""
    import numpy as np
    import torch
    from mmengine.dataset import pseudo_collate

    from ctvlm.volume import CTVolume
    from ctvlm.volume.resample import resample_to_grid

    results = {**case, "region_map": None, "lesion_map": None, "coarse_masks": {}}
    for transform in pipeline:
        results = transform(results)
    with torch.no_grad():
        sample = model.test_step(pseudo_collate([results]))[0]
    if "pred_region_map" not in sample:
        raise ConfigError(
            "the model predicts no region map. Add an objective that does, such as "
            "model.objectives=dict(voxels=dict(type='SegmentationObjective',head=dict(type='VoxelSegmentationHead')))"
        )
    predicted = CTVolume(np.asarray(sample.pred_region_map), np.asarray(sample.affine))
    return resample_to_grid(predicted, case["affine"], case["volume"].shape, "nearest").array


def true_masks(case: dict, scheme: RegionScheme) -> Iterator[tuple[str, tuple[int, ...], np.ndarray]]:
    """Name, region ids and mask of each region in the masks of a case."""
    import numpy as np

    region_map = case["region_map"]
    if region_map is not None:
        present = [int(i) for i in np.unique(region_map) if i > 0]
        for i in present:
            yield scheme.name_of(i), (i,), region_map == i
        for name in UNIONS:
            ids = scheme.ids_of_class(name)
            if len(set(ids).intersection(present)) > 1:
                yield name, ids, np.isin(region_map, ids)
    for name, mask in case["coarse_masks"].items():
        yield name, scheme.ids_of_class(name), mask


def main(argv: list[str] | None = None) -> int:
    """Predict and compare the regions of all cases; returns the exit code."""
    args = parse_args(argv)
    import numpy as np
    from rich.table import Table

    from ctvlm.anatomy import scheme_of
    from ctvlm.apis import init_model
    from ctvlm.datasets.manifest import read_manifest
    from ctvlm.datasets.transforms import LoadCT
    from ctvlm.engine import load_config, write_json
    from ctvlm.evaluation.functional.localisation import mask_dice
    from ctvlm.volume import CTVolume

    quiet_warnings()
    if args.out:
        check_out_file("--out", args.out)
    # custom_imports of a config may name modules in projects/, which are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cfg = load_config(args.config, args.cfg_options)
    cases = [
        case
        for case in read_manifest(args.manifest, args.split, allow_outside=args.allow_outside)
        if case["region_map"]
    ]
    if not cases:
        raise CTVLMError(f"{args.manifest}: found no case with a region map to compare with")
    model, pipeline = init_model(cfg, args.checkpoint, device=args.device), build_pipeline(cfg)
    scheme, load = scheme_of(cfg.test_dataloader.dataset), LoadCT()
    table = Table("case", "region", "ml", "predicted ml", "Dice", title="regions predicted from bare CTs")
    dice: dict[str, dict[str, float]] = {}
    for entry in cases:
        case = load({**entry, "scheme": scheme.reference})
        predicted, voxel_ml = predicted_map(model, pipeline, case), CTVolume(case["volume"], case["affine"]).voxel_ml
        scores = dice.setdefault(case["case_id"], {})
        for name, ids, mask in true_masks(case, scheme):
            if mask.sum() * voxel_ml < MIN_ML:
                continue
            predicted_mask = np.isin(predicted, ids)
            scores[name] = mask_dice(predicted_mask, mask)
            row = (f"{mask.sum() * voxel_ml:.0f}", f"{predicted_mask.sum() * voxel_ml:.0f}", f"{scores[name]:.2f}")
            table.add_row(case["case_id"], name, *row)
        table.add_section()
    stdout_console().print(table)
    if args.out:
        write_json(args.out, {"config": args.config, "checkpoint": args.checkpoint, "dice": dice})
        print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
