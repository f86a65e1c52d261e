"""ctvlm segment."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, Json
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


def segment_command(
    inputs: Inputs,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="PATH", help="folder, or for a single CT a file (.nii.gz)")
    ] = "regions",
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
    """Write region maps as NIfTI on the voxels of the CTs.

    Example: ctvlm segment ct.nii.gz

    A JSON file next to each map has the names of its ids and the volumes. If a CT has a mask, its regions are written
    instead of predicted ones. The map of a CT with a sheared grid (tilted gantry) has an orthogonal grid that covers
    it, because programs such as SimpleITK do not open sheared grids. An interrupted run resumes when it is started
    again. The exit code is 1 if a case failed.
    """
    from ctvlm.apis import RegionSegmenter
    from ctvlm.cli.inference import known_device, one_or_several, report_saved, run_options, trained_model
    from ctvlm.cli.region_file import save_region_file
    from ctvlm.engine import quiet_warnings
    from ctvlm.utils import check_out_file, check_out_folder

    quiet_warnings()
    options = run_options(batch_size, workers, shard, scheduler)
    is_file = out.lower().endswith((".nii", ".nii.gz"))
    (check_out_file if is_file else check_out_folder)("--out", out)
    segment = RegionSegmenter(trained_model(model, checkpoint), checkpoint, known_device(device))
    if is_file:
        return save_region_file(segment, inputs, mask, mask_source, out, as_json, allow_outside)
    summary = segment.save(one_or_several(inputs), out, mask, mask_source, options, allow_outside=allow_outside)
    return report_saved(summary, as_json)
