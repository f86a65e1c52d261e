"""Training and evaluation: Runner, hooks, optimizers, checkpoints, configs and the process group."""

import lazy_loader

# A name is imported on first access, so that the command line answers without importing torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
