"""Start the 3D encoder from a 2D vision transformer of timm's.

python tools/model_converters/inflate_timm_vit.py configs/vit3d_cot_contrastive_small.py vit_small_patch16_224 \\
    small.pth --weights vit_small.safetensors --cfg-options model.backbone.position=learned
python tools/train.py configs/vit3d_cot_contrastive_small.py \\
    --cfg-options model.backbone.position=learned load_from=small.pth load_strict=False

Weights come from a file (.safetensors, .pth), or with --pretrained from the hub. The config's backbone must have the
network's width, depth, heads and MLP, and ThreeDPatchEmbedding: of the configs here, small fits vit_small_* and base
fits vit_base_*. With position='learned' the network's positions come along, with others they are left behind.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections import Counter
from pathlib import Path

import timm
import torch
from rich.table import Table
from timm.models import load_checkpoint
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from ctvlm.engine import CheckpointError, ConfigOptions, load_config, quiet_warnings, run_tool
from ctvlm.engine.checkpoint.files import AtomicLocalBackend
from ctvlm.engine.checkpoint.weight_match import match_weights
from ctvlm.engine.cli.console import stdout_console
from ctvlm.models.backbones.inflate import check_convertible, inflate_vit
from ctvlm.registry import BACKBONES


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Start the 3D encoder from a 2D vision transformer of timm's.")
    parser.add_argument("config", help="config whose model.backbone takes the weights")
    parser.add_argument("model", help="name of the network in timm, such as vit_base_patch16_224")
    parser.add_argument("out", type=Path, help="checkpoint to write, for load_from")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="file of timm's weights (.safetensors, .pth)")
    source.add_argument("--pretrained", action="store_true", help="download the weights from the hub")
    parser.add_argument(
        "--model-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", default={},
        help="arguments of timm.create_model, for weights of a changed network",
    )  # fmt: skip
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE", help="as in tools/train.py"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args()


def read_vit(name: str, weights: Path | None, options: dict) -> nn.Module:
    """timm's network with its weights.

    Raises:
        CheckpointError: they cannot be had, or are another network's.
    """
    try:
        vit = timm.create_model(name, pretrained=weights is None, num_classes=0, **options)
        check_convertible(vit)
        if weights is not None:
            if not weights.is_file():
                raise CheckpointError(f"weights not found: {weights}")
            found = load_checkpoint(vit, str(weights), strict=False, filter_fn=checkpoint_filter_fn)
            if found.missing_keys:
                lacking = ", ".join(found.missing_keys[:3])
                raise CheckpointError(
                    f"{weights} lacks {len(found.missing_keys)} weights of {name} ({lacking}, ...): it is another "
                    "network's; give that one's name, or what differs with --model-options"
                )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"no weights for {name} from {weights or 'the hub'}: {error}") from error
    return vit


def report(encoder: nn.Module, weights: dict, left_over: list[str], name: str) -> Table:
    """What the encoder got, what it begins anew, what stayed behind; weights of all blocks in one row."""
    match = match_weights(encoder, {"state_dict": weights})
    table = Table(title=f"{name} in {type(encoder).__name__}", title_justify="left")
    for title in ("weights", "number", ""):
        table.add_column(title)
    for names, state in ((match.matched, f"from {name}"), (match.missing, "new"), (left_over, "left behind")):
        groups = Counter(re.sub(r"blocks\.\d+\.", "blocks.*.", key) for key in names)
        for group, count in groups.items():
            table.add_row(group, str(count), state)
    return table


def main() -> None:
    """Read, convert, write, report."""
    args = parse_args()
    quiet_warnings()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cfg = load_config(args.config, args.cfg_options)
    encoder = BACKBONES.build(cfg.model.backbone)
    vit = read_vit(args.model, args.weights, args.model_options)
    images = vit.pretrained_cfg
    weights, left_over = inflate_vit(vit, encoder, images["mean"], images["std"])
    content = {"state_dict": {f"backbone.{key}": value for key, value in weights.items()}, "meta": {"timm": args.model}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    AtomicLocalBackend().put(buffer.getvalue(), args.out)
    stdout_console().print(report(encoder, weights, left_over, args.model))
    print(f"written to {args.out}; train with --cfg-options load_from={args.out} load_strict=False")


if __name__ == "__main__":
    sys.exit(run_tool(main))
