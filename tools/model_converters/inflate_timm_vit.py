"""Convert the weights of a 2D vision transformer of timm to a checkpoint of the 3D encoder.

python tools/model_converters/inflate_timm_vit.py configs/vit3d_cot_contrastive_small.py vit_small_patch16_224 \\
    small.pth --weights vit_small.safetensors --cfg-options model.backbone.position=learned
python tools/train.py configs/vit3d_cot_contrastive_small.py \\
    --cfg-options model.backbone.position=learned load_from=small.pth load_strict=False

The weights are read from a file (.safetensors, .pth), or downloaded from the hub with --pretrained. The backbone of the
config must use ThreeDPatchEmbedding and have the width, depth, number of heads and MLP of the timm model:
vit_small_* fits the small preset, vit_base_* the base preset. Position embeddings are converted with position='learned'
only.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctvlm.engine import ConfigOptions, quiet_warnings, run_tool
from ctvlm.engine.cli.console import stdout_console

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Convert weights of a 2D timm ViT to a checkpoint of the 3D encoder.")
    parser.add_argument("config", help="config whose model.backbone will use the weights")
    parser.add_argument("model", help="name of the timm model, for example vit_base_patch16_224")
    parser.add_argument("out", type=Path, help="output checkpoint, for load_from")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="file with timm weights (.safetensors, .pth)")
    source.add_argument("--pretrained", action="store_true", help="download the weights from the hub")
    parser.add_argument(
        "--model-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", default={},
        help="additional arguments of timm.create_model",
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="override the config: a.b=1"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args()


def read_vit(name: str, weights: Path | None, options: dict) -> nn.Module:
    """Create a timm model with its weights.

    Raises:
        CheckpointError: the weights cannot be loaded, or belong to another model.
    """
    import timm
    from timm.models import load_checkpoint
    from timm.models.vision_transformer import checkpoint_filter_fn

    from ctvlm.engine import CheckpointError
    from ctvlm.models.backbones.inflate import check_convertible

    try:
        vit = timm.create_model(name, pretrained=weights is None, num_classes=0, **options)
        check_convertible(vit)
        if weights is not None:
            if not weights.is_file():
                raise CheckpointError(f"weights not found: {weights}")
            loaded = load_checkpoint(vit, str(weights), strict=False, filter_fn=checkpoint_filter_fn, weights_only=True)
            if loaded.missing_keys:
                names = ", ".join(loaded.missing_keys[:3])
                raise CheckpointError(
                    f"{weights}: {len(loaded.missing_keys)} weights of {name} are missing ({names}, ...). Use the name "
                    "of the model that the weights belong to, or set --model-options"
                )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot load weights of {name} from {weights or 'the hub'}: {error}") from error
    return vit


def summary_table(encoder: nn.Module, weights: dict, unused: list[str], name: str) -> Table:
    """Table of converted, new and unused weights; equal weights of all blocks share one row."""
    from rich.table import Table

    from ctvlm.utils.weight_match import match_weights

    match = match_weights(encoder, {"state_dict": weights})
    table = Table(title=f"{name} in {type(encoder).__name__}", title_justify="left")
    for title in ("weights", "number", ""):
        table.add_column(title)
    for names, state in ((match.matched, f"from {name}"), (match.missing, "new"), (unused, "not used")):
        groups = Counter(re.sub(r"blocks\.\d+\.", "blocks.*.", key) for key in names)
        for group, count in groups.items():
            table.add_row(group, str(count), state)
    return table


def main() -> None:
    """Load, convert and write the weights, and print a summary."""
    args = parse_args()
    import torch

    from ctvlm.engine import load_config
    from ctvlm.engine.checkpoint.files import AtomicLocalBackend
    from ctvlm.models.backbones.inflate import inflate_vit
    from ctvlm.registry import BACKBONES
    from ctvlm.utils import check_out_file

    quiet_warnings()
    check_out_file("out", args.out)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cfg = load_config(args.config, args.cfg_options)
    encoder = BACKBONES.build(cfg.model.backbone)
    vit: Any = read_vit(args.model, args.weights, args.model_options)
    cfg_2d = vit.pretrained_cfg
    weights, unused = inflate_vit(vit, encoder, cfg_2d["mean"], cfg_2d["std"])
    content = {"state_dict": {f"backbone.{key}": value for key, value in weights.items()}, "meta": {"timm": args.model}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    AtomicLocalBackend().put(buffer.getvalue(), args.out)
    stdout_console().print(summary_table(encoder, weights, unused, args.model))
    print(f"written to {args.out}; train with --cfg-options load_from={args.out} load_strict=False")


if __name__ == "__main__":
    sys.exit(run_tool(main))
