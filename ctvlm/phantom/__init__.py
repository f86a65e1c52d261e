"""PhantomCT: synthetic chest-abdomen CTs with region maps, lesions, labels and reasoning text.

``plan`` samples the patient and the findings; ``body``, ``chest``, ``abdomen`` and ``findings`` draw them on a
``canvas``; ``acquisition`` adds blur and noise; ``reasoning`` writes the text. To add a finding, write one decorated
function in ``findings``.
"""

from ctvlm.phantom.case import PhantomCase, generate_case
from ctvlm.phantom.phantom_ct import PhantomCT
from ctvlm.phantom.plan import Plan, sample_plan
from ctvlm.phantom.reasoning import write_report

__all__ = ["PhantomCT", "PhantomCase", "Plan", "generate_case", "sample_plan", "write_report"]
