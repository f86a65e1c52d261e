"""PhantomCT: synthetic chest-abdomen CTs with region maps, lesions, labels and reasoning text.

``plan`` samples the patient and the findings; ``body``, ``chest``, ``abdomen`` and ``findings`` draw them on a
``canvas``; ``acquisition`` adds blur and noise; ``reasoning`` writes the text. To add a finding, write one decorated
function in ``findings``.
"""

import lazy_loader

# A name is imported on first access: the processes that draw import NumPy, but not torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
