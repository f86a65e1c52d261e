"""Zero-shot classification of findings from prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from ctvlm.apis.case_input import CaseInputError
from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.inferencer import Inferencer
from ctvlm.evaluation.functional.zero_shot import prompt_embeddings, zero_shot_probabilities
from ctvlm.evaluation.functional.zero_shot_protocols import PROTOCOLS, Protocol
from ctvlm.models.objectives import BatchContext
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.text.prompts import prompt_pairs

# Names of findings, or a finding to its prompts (present, absent); None: the prompts of the protocol.
Findings = Sequence[str] | Mapping[str, Sequence[str] | None]
Prompts = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Classification:
    """Findings of one CT.

    Attributes:
        probabilities: finding to the probability that it is present.
        protocol: protocol whose prompts were used, or "own prompts".
        remark: reason not to trust the probabilities, or "".
    """

    case_id: str
    probabilities: dict[str, float]
    protocol: str
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return dict(
            case_id=self.case_id, probabilities=dict(self.probabilities), protocol=self.protocol, remark=self.remark
        )


class ZeroShotClassifier(Inferencer[Classification]):
    """Probabilities of findings: softmax over the similarities of a CT to two prompts, times the model's logit scale.

    Example::

        classify = ZeroShotClassifier()
        print(classify("ct.nii.gz").probabilities["Pleural effusion"])
        classify.set_findings({"Pneumothorax": ["There is a pneumothorax.", "There is no pneumothorax."]})

    The image feature is the volume embedding. Arguments and errors are those of Inferencer, and of ``set_findings``.
    """

    task = "classifying"

    def __init__(self, *args: Any, findings: Findings | None = None, protocol: str = "ctvlm", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_findings(findings, protocol)

    def set_findings(self, findings: Findings | None = None, protocol: str = "ctvlm") -> None:
        """Choose the findings and embed their prompts.

        Args:
            findings: names of CT-RATE's findings in any case, or any finding with its own prompts (present, absent);
                None as prompts: those of the protocol. Default: the findings of CT-RATE that the protocol scores.
            protocol: name of a published protocol, which defines the prompts.

        Raises:
            CaseInputError: unknown finding or protocol; the message lists the known ones.
        """
        chosen = protocol_of(protocol)
        prompts = prompts_of(findings, chosen)
        texts = list(dict.fromkeys(text for pairs in prompts.values() for pair in pairs for text in pair))
        with torch.no_grad():
            embeddings = dict(zip(texts, self.model.embed_texts(texts).float().cpu().numpy(), strict=True))
        sides = [prompt_embeddings("", [_escaped(pair) for pair in pairs], embeddings) for pairs in prompts.values()]
        self.names = list(prompts)
        self._present_CP, self._absent_CP = (np.stack(side) for side in zip(*sides, strict=True))
        self._scale = self.model.logit_scale() if chosen.scaled else 1.0
        own = isinstance(findings, Mapping) and all(findings.values())
        self.protocol = "own prompts" if own else chosen.name

    @torch.no_grad()
    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[Classification]:
        context = self.context(cases) if context is None else context
        volume_BP = context.volume_BP.float().cpu().numpy()
        probability_BC = zero_shot_probabilities(volume_BP, self._present_CP, self._absent_CP, self._scale)
        return [
            Classification(
                case.case_id,
                dict(zip(self.names, map(float, probability_C), strict=True)),
                self.protocol,
                self.remark_on(case),
            )
            for case, probability_C in zip(cases, probability_BC, strict=True)
        ]


def protocol_of(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        CaseInputError: the name is unknown.
    """
    if name not in PROTOCOLS:
        raise CaseInputError(f"protocol {name!r} is unknown{_nearest(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def prompts_of(findings: Findings | None, protocol: Protocol) -> Prompts:
    """Finding to its pairs of prompts (present, absent); arguments and errors as ``set_findings``."""
    if findings is None:
        findings = protocol.select(CT_RATE_LABELS)
    if isinstance(findings, str) or not findings:
        raise CaseInputError(f"findings: found {findings!r}; expected a list of names, or names with prompts")
    prompts: Prompts = {}
    for name in findings:
        own = findings[name] if isinstance(findings, Mapping) else None
        if own is not None:
            if isinstance(own, str) or len(own) != 2 or not all(isinstance(text, str) and text.strip() for text in own):
                raise CaseInputError(f"finding {name!r}: found prompts {own!r}; expected [present, absent]")
            prompts[name] = [(own[0], own[1])]
            continue
        known = _known_finding(name, protocol)
        prompts[known] = prompt_pairs(known, protocol.templates, protocol.phrases)
    return prompts


def _known_finding(name: str, protocol: Protocol) -> str:
    known = {label.lower(): label for label in protocol.select(CT_RATE_LABELS)}
    if name.lower() not in known:
        raise CaseInputError(
            f"finding {name!r} is unknown{_nearest(name, known.values())}; known: {', '.join(known.values())}. Any "
            "other finding needs prompts: {name: [present, absent]}"
        )
    return known[name.lower()]


def _nearest(name: str, known: Any) -> str:
    by_lower = {text.lower(): text for text in known}
    matches = get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(by_lower[match] for match in matches)}?)" if matches else ""


def _escaped(pair: tuple[str, str]) -> tuple[str, str]:
    """A template that formats to the given prompts."""
    present, absent = (text.replace("{", "{{").replace("}", "}}") for text in pair)
    return present, absent
