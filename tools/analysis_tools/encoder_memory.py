"""Measure the memory of one training step of an encoder: python tools/analysis_tools/encoder_memory.py [CONFIG]

Without a config, the default encoder is measured with a volume of 1 x 3 x 64 x 512 x 512 and activation checkpointing.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from ctvlm.engine import run_tool

if TYPE_CHECKING:
    from ctvlm.structures import EncoderOutput


GIB = 2**30
TARGET_GIB = 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the peak memory of a training step of an encoder on the CPU.")
    parser.add_argument(
        "config",
        nargs="?",
        help="config whose model.backbone is measured (default: the default encoder)",
    )
    parser.add_argument("--size", type=int, nargs=3, metavar=("D", "H", "W"), help="default: img_size of the backbone")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--no-checkpoint", action="store_true", help="disable activation checkpointing")
    parser.add_argument("--json", help="write the results to this file")
    return parser.parse_args(argv)


def backbone_config(config: str | None) -> dict:
    """Backbone config of a config file, or of the default encoder.

    Raises:
        ValueError: the config has no model.backbone.
    """
    from ctvlm.engine import load_config

    if config is None:
        return dict(type="ThreeDVisionEncoder", img_size=(64, 512, 512))
    cfg = load_config(config)
    if "backbone" not in cfg.get("model", {}):
        raise ValueError(f"config {config} has no model.backbone")
    return cfg.model.backbone.to_dict()


def literal_bytes(backbone: Any, size: tuple[int, int, int], batch: int) -> dict[str, int]:
    """Memory of a literal implementation of the formulas in fp32: all N x N and E x D x H x W tensors of one step."""
    depth, heads = len(backbone.blocks), backbone.blocks[0].attention.num_heads
    tokens = 1
    for s, p in zip(size, backbone.patch_size):
        tokens *= s // p
    scores = 4 * batch * heads * tokens**2
    mask_features = 4 * batch * backbone.embed_dims * size[0] * size[1] * size[2]
    return {
        "mask convolution: output and its gradient": 2 * mask_features,
        "one block: scores, softmax and their gradients": 4 * scores,
        f"softmax of {depth} blocks, kept without checkpointing": depth * scores,
    }


def run_step(backbone: Any, size: tuple[int, int, int], batch: int) -> tuple[EncoderOutput, float, float]:
    """Run one forward and backward pass on random voxels. Returns the output and both times in seconds."""
    import torch

    torch.manual_seed(0)
    volume_BCDHW = torch.rand(batch, backbone.patch_embed.in_channels, *size)
    region_map_BDHW = torch.randint(0, backbone.num_regions + 1, (batch, *size), dtype=torch.uint8)
    start = time.perf_counter()
    out = backbone(volume_BCDHW, region_map_BDHW)
    middle = time.perf_counter()
    (out.tokens.square().mean() + out.region_tokens.square().mean()).backward()
    return out, middle - start, time.perf_counter() - middle


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write the results."""
    args = parse_args(argv)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ctvlm.engine import write_json
    from ctvlm.registry import BACKBONES
    from ctvlm.utils.memory import peak_memory

    console = Console(highlight=False)
    config = backbone_config(args.config)
    if config["type"] != "ThreeDVisionEncoder":
        raise ValueError(f"backbone.type is {config['type']}; expected ThreeDVisionEncoder, which has a literal form")
    checkpointing = not args.no_checkpoint
    config["block"] = {**config.get("block", {}), "use_checkpoint": checkpointing}
    size = tuple(args.size or config.get("img_size", (64, 512, 512)))
    backbone = BACKBONES.build(config).train()
    console.print(f"one forward and backward pass with {args.batch} x 3 x {' x '.join(map(str, size))} ...")
    out, forward_s, backward_s = run_step(backbone, size, args.batch)
    finite = all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in backbone.parameters())
    literal = literal_bytes(backbone, size, args.batch)
    results = dict(
        size=list(size),
        batch=args.batch,
        tokens=out.tokens.shape[1],
        parameters=sum(p.numel() for p in backbone.parameters()),
        checkpointing=checkpointing,
        peak_rss_gib=peak_memory(torch.device("cpu")) / GIB,
        forward_s=forward_s,
        backward_s=backward_s,
        finite_gradients=finite,
        literal_gib={name: size_b / GIB for name, size_b in literal.items()},
    )
    table = Table("quantity", "value", title="encoder memory")
    table.add_row("tokens", f"{results['tokens']:,}")
    table.add_row("parameters", f"{results['parameters']:,}")
    table.add_row("activation checkpointing", "on" if results["checkpointing"] else "off")
    table.add_row(
        "peak resident memory", f"{results['peak_rss_gib']:.2f} GiB (target at 64 x 512 x 512: < {TARGET_GIB})"
    )
    table.add_row("forward / backward", f"{forward_s:.0f} s / {backward_s:.0f} s, {torch.get_num_threads()} threads")
    table.add_row("all gradients are finite", str(finite))
    for name, size_b in literal.items():
        table.add_row(f"literal form: {name}", f"{size_b / GIB:,.1f} GiB")
    console.print(table)
    if args.json:
        write_json(args.json, results)
        console.print(f"results written to {args.json}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
