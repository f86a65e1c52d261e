"""PhantomCT: chest-abdomen CTs drawn from a seed, with region maps, lesions, labels and reasoning text.

``plan`` decides who is scanned and what is found; ``body``, ``chest``, ``abdomen`` and ``findings`` draw it on a
``canvas``; ``acquisition`` scans it, ``reasoning`` tells it. A new finding is one decorated function in ``findings``.
"""

from ctvlm.phantom.case import PhantomCase, generate_case
from ctvlm.phantom.phantom_ct import PhantomCT
from ctvlm.phantom.plan import Plan, sample_plan
from ctvlm.phantom.reasoning import write_report

__all__ = ["PhantomCT", "PhantomCase", "Plan", "generate_case", "sample_plan", "write_report"]
