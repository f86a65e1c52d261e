"""Pure functions: the definitions of the metrics."""

from ctvlm.evaluation.functional.alignment import region_text_hits
from ctvlm.evaluation.functional.retrieval import pessimistic_ranks, retrieval_ranks, summarise_ranks

__all__ = ["pessimistic_ranks", "region_text_hits", "retrieval_ranks", "summarise_ranks"]
