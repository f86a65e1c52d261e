"""Export the vision encoder of a model with torch.export (.pt2) or as ONNX (.onnx), and compare it with the model.

    python tools/model_converters/export_encoder.py vit3d_phantom encoder.onnx
    python tools/model_converters/export_encoder.py work_dirs/vit3d_cot_contrastive_bare/epoch_8.pth encoder.pt2

Inputs: ``hu`` (B, 1, D, H, W) in HU, RAS+ order with axes (z, y, x), and ``spacing`` (B, 3) in mm (z, y, x). Outputs:
see ``ctvlm.apis.EncoderFeatures``. The batch size is free; D, H, W are those of the config, or of --shape. The exported
encoder has no region map as input. ONNX needs pip install "ctvlm[onnx]".
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCHES = (1, 3)  # batch sizes of the comparison; the export uses another one
SUFFIXES = (".pt2", ".onnx")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of a model, checkpoint, or released folder")
    parser.add_argument("out", type=Path, help="output file: .pt2 or .onnx")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="size of the input (z, y, x)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest accepted difference of an output")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if args.out.suffix not in SUFFIXES:
        parser.error(f"{args.out}: found the suffix {args.out.suffix!r}; expected .pt2 or .onnx")
    return args


def write_pt2(encoder: Any, example: tuple, shapes: dict, out: Path) -> Any:
    """Export with torch.export, and return the loaded program as a function of the inputs."""
    import torch

    program = torch.export.export(encoder, example, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, out)
    return torch.export.load(out).module()


def write_onnx(encoder: Any, example: tuple, shapes: dict, out: Path) -> Any:
    """Export as ONNX, and return onnxruntime's session as a function of the inputs."""
    import torch

    from ctvlm.apis import EncoderFeatures
    from ctvlm.utils import CTVLMError

    try:
        import onnxruntime
    except ImportError as error:
        raise CTVLMError('onnxruntime is missing: pip install "ctvlm[onnx]"') from error
    program: Any = torch.onnx.export(
        encoder,
        example,
        dynamo=True,
        verbose=False,
        dynamic_shapes=shapes,
        input_names=["hu", "spacing"],
        output_names=list(EncoderFeatures._fields),
    )
    large = sum(p.numel() * p.element_size() for p in encoder.parameters()) > 1.5e9  # protobuf ends at 2 GB
    program.save(out, external_data=large)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.as_tensor(value) for value in session.run(None, values)]

    return run


def differences(encoder: Any, exported: Any, shape: tuple[int, int, int]) -> dict[str, float]:
    """Largest absolute difference of each output over batches of several sizes."""
    import torch

    from ctvlm.apis.encoder import EncoderFeatures, example_input

    largest = dict.fromkeys(EncoderFeatures._fields, 0.0)
    for batch in BATCHES:
        inputs = example_input(shape, batch, seed=batch)
        with torch.no_grad():
            expected, found = encoder(*inputs), exported(*inputs)
        for name, one, other in zip(largest, expected, found, strict=True):
            largest[name] = max(largest[name], float((one.float() - other.float()).abs().max()))
    return largest


def export(args: argparse.Namespace) -> None:
    """Export, compare, and print the differences.

    Raises:
        CTVLMError: an output differs by more than the tolerance; an existing file stays as it is.
    """
    import torch

    from ctvlm.apis import CTEncoder, init_model
    from ctvlm.apis.encoder import example_input
    from ctvlm.utils import CTVLMError, check_out_file
    from ctvlm.utils.atomic import write_errors

    check_out_file("out", args.out)
    model: Any = init_model(args.model, device="cpu")
    shape = args.shape or model.cfg.model.backbone.get("img_size")
    if shape is None:
        raise CTVLMError(f"the config of {args.model} has no model.backbone.img_size: pass --shape D H W")
    encoder, shape = CTEncoder(model), tuple(shape)
    batch = torch.export.Dim("batch")
    shapes = dict(hu_B1DHW={0: batch}, spacing_B3={0: batch})
    write = write_onnx if args.out.suffix == ".onnx" else write_pt2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # A folder, because a large ONNX model has a second file that the first one names.
    with write_errors(args.out), tempfile.TemporaryDirectory(dir=args.out.parent, prefix=".part_") as folder:
        exported = write(encoder, example_input(shape, batch=2), shapes, Path(folder) / args.out.name)
        compare(differences(encoder, exported, shape), shape, args.tolerance)
        del exported  # closes the file
        for file in Path(folder).iterdir():
            os.replace(file, args.out.parent / file.name)
    print(f"written to {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


def compare(found: dict[str, float], shape: tuple[int, ...], tolerance: float) -> None:
    """Print the differences.

    Raises:
        CTVLMError: a difference exceeds the tolerance.
    """
    from ctvlm.utils import CTVLMError

    print(f"largest difference from the model, batches of {BATCHES}, volumes of {'×'.join(map(str, shape))}:")
    for name, value in found.items():
        print(f"  {name:16} {value:.2g}")
    if wrong := [name for name, value in found.items() if not value <= tolerance]:
        raise CTVLMError(f"{', '.join(wrong)}: the difference exceeds --tolerance {tolerance}; nothing is written")


def main(argv: list[str] | None = None) -> int:
    """Export an encoder; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.engine import quiet_warnings, run_tool

    quiet_warnings()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    return run_tool(lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
