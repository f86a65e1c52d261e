"""Published retrieval protocols.

Embeddings are unit vectors, so that the dot product is the cosine similarity. Published scripts sort ties in the order
of the cases or in an undefined order; here they are always sorted in the order of the cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctvlm.evaluation.functional.retrieval import Duplicates, Ties


@dataclass(frozen=True)
class RetrievalProtocol:
    """A retrieval protocol.

    Attributes:
        topk: values of k for recall at k between texts and volumes; empty if the protocol has only pools.
        ties, duplicates: see ``retrieval_ranks``.
        one_per_study: score one volume of each study instead of all volumes.
        skip_placeholders: exclude cases whose impression is a placeholder.
        image_rule: rule of ``image_retrieval.image_map`` for image-to-image retrieval.
        image_topk: values of k for image-to-image retrieval.
        pool_sizes, keep_rest: random pools, see ``pools.pool_recall``.
        source: publication or code that defines the protocol.
    """

    name: str
    source: str
    topk: tuple[int, ...] = ()
    ties: Ties = "order"
    duplicates: Duplicates = "strict"
    one_per_study: bool = True
    skip_placeholders: bool = False
    image_rule: Literal["ct_clip", "spectre", "radfinder"] | None = None
    image_topk: tuple[int, ...] = ()
    pool_sizes: tuple[int, ...] = ()
    keep_rest: bool = False

    @property
    def description(self) -> str:
        """Short description of ties, duplicates and volumes for a table."""
        volumes = "one volume per study" if self.one_per_study else "all volumes"
        return f"ties: {self.ties}, duplicates: {self.duplicates}, {volumes}"


RETRIEVAL_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        RetrievalProtocol(
            "ct_clip",
            "github.com/ibrahimethemhamamci/CT-CLIP, scripts/report_to_volume_new.py and volume_to_volume_new.py",
            topk=(5, 10, 50, 100),
            one_per_study=False,
            image_rule="ct_clip",
            image_topk=(1, 5, 10, 50),
        ),
        RetrievalProtocol(
            "spectre",
            "github.com/cclaess/SPECTRE, eval/retrieval_ct_rate.py and eval/retrieval_merlin.py",
            topk=(5, 10, 50, 100),
            image_rule="spectre",
            image_topk=(1, 5, 10, 50),
            pool_sizes=(32, 64, 128),
            keep_rest=True,
        ),
        RetrievalProtocol(
            "radfinder",
            "github.com/lmb-freiburg/radfinder, src/radfinder/tasks/*retrieval_task.py",
            topk=(1, 5, 10, 50, 100),
            image_rule="radfinder",
            image_topk=(5, 10, 50),
            pool_sizes=(32, 64, 128),
        ),
        RetrievalProtocol(
            "merlin",
            "Blankemeier et al., arXiv 2406.06512; its evaluation code is not public, pools are drawn as in RadFinder",
            pool_sizes=(32, 64, 128),
        ),
        RetrievalProtocol(
            "ctvlm",
            "this project: pessimistic ties, any volume with an equal text is correct",
            topk=(1, 5, 10),
            ties="pessimistic",
            duplicates="hit",
            skip_placeholders=True,
        ),
    )
}


def get_retrieval_protocol(name: str) -> RetrievalProtocol:
    """The retrieval protocol of a name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in RETRIEVAL_PROTOCOLS:
        raise ValueError(f"Unknown retrieval protocol {name!r}; expected one of {sorted(RETRIEVAL_PROTOCOLS)}.")
    return RETRIEVAL_PROTOCOLS[name]
