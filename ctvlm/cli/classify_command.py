"""ctvlm classify."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, Json
from ctvlm.cli.case_arguments import BatchSize, Checkpoint, Device, Inputs, Mask, MaskSource, Model


def csv_file(path: str | None) -> str | None:
    """Check a path before the CTs are read."""
    if path is not None and not path.lower().endswith(".csv"):
        raise typer.BadParameter(f"found {path}; expected a .csv file")
    return path


def classify_command(
    inputs: Inputs,
    finding: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="only this finding (see ctvlm list findings); can be repeated"),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help='JSON file of findings and their prompts: {"name": ["present", "absent"]}'),
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="protocol that defines the prompts (see ctvlm list protocols)")
    ] = "ctvlm",
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", callback=csv_file, help="write a .csv table with one row per CT"),
    ] = None,
    mask: Mask = None,
    mask_source: MaskSource = None,
    allow_outside: AllowOutside = False,
    model: Model = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    batch_size: BatchSize = 4,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Show probabilities of findings, without training on them.

    Example: ctvlm classify ct.nii.gz

    The probability of a finding compares the CT with a prompt that it is present and a prompt that it is absent. The
    exit code is 1 if a case failed.
    """
    from ctvlm.apis import ZeroShotClassifier
    from ctvlm.cli.findings import chosen_findings, print_findings, write_findings
    from ctvlm.cli.inference import known_device, one_or_several, report_run, trained_model
    from ctvlm.engine import quiet_warnings
    from ctvlm.utils import check_out_file

    quiet_warnings()
    if out:
        check_out_file("--out", out)
    findings = chosen_findings(finding, prompts)
    classify = ZeroShotClassifier(
        trained_model(model, checkpoint), checkpoint, known_device(device), findings=findings, protocol=protocol
    )
    found = classify.run(
        one_or_several(inputs), mask, mask_source, batch_size, progress=True, allow_outside=allow_outside
    )
    if out:
        write_findings(found.results, out)
    if console := report_run(found, as_json):
        print_findings(found.results, console, out)
    return found.exit_code
