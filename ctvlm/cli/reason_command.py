"""ctvlm reason."""

from __future__ import annotations

from ctvlm.cli.arguments import AllowOutside, Debug, Json
from ctvlm.cli.case_arguments import BatchSize, Checkpoint, Device, Inputs, Mask, MaskSource, Model


def reason_command(
    inputs: Inputs,
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
    """Generate the reasoning about CTs, step by step.

    Example: ctvlm reason ct.nii.gz

    Each step is shown with its regions, the slice it attends to (counted from 1, the lowest) and the confidence of the
    model. The exit code is 1 if a case failed.
    """
    from ctvlm.apis import ReasoningInferencer
    from ctvlm.cli.inference import known_device, one_or_several, report_run, trained_model
    from ctvlm.cli.reasoning_table import print_reasoning
    from ctvlm.engine import quiet_warnings

    quiet_warnings()
    reason = ReasoningInferencer(trained_model(model, checkpoint), checkpoint, known_device(device))
    found = reason.run(
        one_or_several(inputs), mask, mask_source, batch_size, progress=True, allow_outside=allow_outside
    )
    if console := report_run(found, as_json):
        print_reasoning(found.results, console)
    return found.exit_code
