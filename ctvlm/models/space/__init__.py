"""The embedding space that volumes, regions, patches and texts share."""

from ctvlm.models.space.shared_space import SharedSpace
from ctvlm.models.space.step_attention import step_attention

__all__ = ["SharedSpace", "step_attention"]
