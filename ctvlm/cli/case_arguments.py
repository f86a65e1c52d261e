"""Arguments of the commands that use a model on CTs."""

from __future__ import annotations

from typing import Annotated

import typer

_CT_HELP = "CT files, DICOM folders, folders of CTs, or manifests (.jsonl)"

Inputs = Annotated[list[str], typer.Argument(metavar="CT", help=_CT_HELP)]
OptionalInputs = Annotated[list[str] | None, typer.Argument(metavar="CT", help=f"{_CT_HELP}, to add to the index")]
Mask = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="region mask of the CT: a label map, or a folder with one mask file per class"),
]
MaskSource = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="meaning of the ids of masks, such as totalsegmentator_v2 (see ctvlm list schemes); with a folder of "
        "CTs, the masks in it are used",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="name (see ctvlm list models), released folder, checkpoint, or config with --checkpoint "
        "(default: vit3d_phantom)",
    ),
]
Checkpoint = Annotated[str | None, typer.Option(metavar="FILE", help="weights for a config that --model names")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: the GPU, if any)")]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="CTs that the model processes at a time")]
Workers = Annotated[int, typer.Option(metavar="N", min=1, help="processes on this machine")]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="process every N-th case, starting with I (0 to N-1), for job arrays"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="run on the Dask cluster at this address, such as tcp://head:8786"),
]
