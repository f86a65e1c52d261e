"""ctvlm embed."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, Json, flag
from ctvlm.cli.case_arguments import (
    BatchSize,
    Checkpoint,
    Device,
    Inputs,
    Mask,
    MaskSource,
    Model,
    Scheduler,
    Shard,
    Workers,
)


class Format(str, Enum):
    """File formats of features."""

    npz = "npz"
    safetensors = "safetensors"
    parquet = "parquet"


def embed_command(
    inputs: Inputs,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="PATH", help="folder, or the file of a table (.parquet)")
    ] = "features",
    format: Annotated[Format | None, typer.Option(help="default: parquet if PATH ends so, otherwise npz")] = None,
    patches: Annotated[bool, flag("--patches", help="also write the embeddings of the patches")] = False,
    mask: Mask = None,
    mask_source: MaskSource = None,
    allow_outside: AllowOutside = False,
    model: Model = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    batch_size: BatchSize = 4,
    workers: Workers = 1,
    shard: Shard = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Write embeddings of CTs and of their regions.

    Example: ctvlm embed ct.nii.gz

    Each file has the arrays volume (P), regions (R, P) and region_mask (R). An interrupted run resumes when it is
    started again. The exit code is 1 if a case failed.
    """
    from ctvlm.apis import FeatureExtractor
    from ctvlm.cli.inference import known_device, one_or_several, report_saved, run_options, trained_model
    from ctvlm.engine import quiet_warnings
    from ctvlm.utils import check_out_file, check_out_folder

    quiet_warnings()
    options = run_options(batch_size, workers, shard, scheduler)
    kind = format.value if format else None
    check = check_out_file if (kind or out).endswith("parquet") else check_out_folder
    check("--out", out)
    extract = FeatureExtractor(trained_model(model, checkpoint), checkpoint, known_device(device))
    summary = extract.save(
        one_or_several(inputs), out, mask, mask_source, kind, patches, options, allow_outside=allow_outside
    )
    return report_saved(summary, as_json)
