"""Contract checks of components: a plugin calls them in its own tests.

Each check builds a component from its class, registered name or config, tests the properties that the framework
relies on, and raises AssertionError with the name of the property, what was found and what was expected::

    from ctvlm.testing import check_attention


    def test_contract():
        check_attention(MyAttention, window=3)
"""

from ctvlm.testing.attention import check_attention
from ctvlm.testing.backbones import check_backbone
from ctvlm.testing.building import NOT_SET
from ctvlm.testing.datasets import check_dataset
from ctvlm.testing.heads import check_head, check_projection
from ctvlm.testing.layers import check_block, check_layer, check_patch_embedding, check_position
from ctvlm.testing.losses import check_loss
from ctvlm.testing.metrics import check_metric
from ctvlm.testing.necks import check_neck
from ctvlm.testing.objectives import check_objective
from ctvlm.testing.region_encoders import check_region_encoder
from ctvlm.testing.text_encoders import check_text_encoder
from ctvlm.testing.transforms import check_transform

__all__ = [
    "NOT_SET",
    "check_attention",
    "check_backbone",
    "check_block",
    "check_dataset",
    "check_head",
    "check_layer",
    "check_loss",
    "check_metric",
    "check_neck",
    "check_objective",
    "check_patch_embedding",
    "check_position",
    "check_projection",
    "check_region_encoder",
    "check_text_encoder",
    "check_transform",
]
