"""Write the model of a checkpoint as a folder that init_model opens and the Hugging Face hub accepts.

    python tools/model_converters/publish.py work_dirs/vit3d_cot_contrastive/epoch_8.pth release/my_model --half
    python tools/model_converters/publish.py epoch_8.pth release/my_model --card results.md --license cc-by-nc-sa-4.0
    python tools/model_converters/publish.py epoch_8.pth release/my_model --config configs/towers/hlip_frozen.py

The folder contains the weights (safetensors), the config, the tokenizers, the region scheme and a model card. The card
lists the training data that the checkpoint records; --card adds a text, such as the recipe and the results. A model
with components of a project needs its --config, because modules that a checkpoint names are not imported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint file (.pth)")
    parser.add_argument("out", type=Path, help="output folder; its name is the title of the card")
    parser.add_argument("--config", help="config of the model, if a project registers its components")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument("--card", type=Path, metavar="FILE", help="Markdown text for the model card")
    parser.add_argument(
        "--license", metavar="ID", help="license of the weights (phantoms only, without pretrained parts: apache-2.0)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def publish(args: argparse.Namespace) -> None:
    """Write the folder, and load it again."""
    from ctvlm.apis import init_model
    from ctvlm.engine import load_config
    from ctvlm.engine.checkpoint.model_card import license_of, model_card
    from ctvlm.engine.checkpoint.release import write_release
    from ctvlm.utils import check_out_folder
    from ctvlm.utils.pretrained_files import pretrained_sources

    check_out_folder("out", args.out)
    text = args.card.read_text(encoding="utf-8") if args.card else ""
    if args.config:
        load_config(args.config)  # imports the modules of the project; the released config is that of the checkpoint
    model: Any = init_model(args.checkpoint, device="cpu")
    records = model.training_data
    license_id = license_of(records, args.license, pretrained_sources(model.state_dict()))
    card = model_card(args.out.name, model.cfg, records, license_id, text, args.half)
    folder = write_release(args.out, model.cfg, model.state_dict(), records, args.half, card)
    init_model(folder, device="cpu")
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size / 1e6:9.3f} MB  {path.name}")
    print(f"written to {folder}; open it with ctvlm.apis.init_model({str(folder)!r})")


def main(argv: list[str] | None = None) -> int:
    """Publish a checkpoint; returns the exit code."""
    args = parse_args(argv)
    from ctvlm.engine import quiet_warnings, run_tool

    quiet_warnings()
    # Modules of projects/ are not installed; the config of a checkpoint may need them.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    return run_tool(lambda: publish(args))


if __name__ == "__main__":
    sys.exit(main())
