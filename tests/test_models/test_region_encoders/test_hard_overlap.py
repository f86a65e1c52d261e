"""Hard assignment, and the learned assignment without maps."""

import torch
import torch.nn.functional as F

from ctvlm.models.region_encoders import HardOverlapRegionEncoder, LearnedRegionEncoder, patch_overlap
from ctvlm.structures import TokenContext

GRID, REGIONS = (2, 2, 3), 4


def region_map(batch=2):
    return torch.randint(-1, REGIONS + 1, (batch, 4, 6, 6), generator=torch.Generator().manual_seed(0))


def context(batch=2):
    return TokenContext.full(batch, GRID, torch.ones(batch, 3))


def test_each_patch_goes_to_the_region_with_most_of_its_voxels():
    tokens_BNE, ids = torch.randn(2, 12, 6), region_map()
    assignment_BNR1 = HardOverlapRegionEncoder(6, REGIONS).assign(tokens_BNE, ids, context()).assignment
    shares_BNR1, _ = patch_overlap(ids, GRID, REGIONS)
    torch.testing.assert_close(assignment_BNR1, F.one_hot(shares_BNR1.argmax(-1), REGIONS + 1).float())


def test_selected_tokens_get_their_own_patch():
    """The assignment follows the indices of selected tokens."""
    ids, index_BN = region_map(), torch.tensor([[3, 0, 7], [11, 2, 5]])
    full = HardOverlapRegionEncoder(6, REGIONS).assign(torch.randn(2, 12, 6), ids, context()).assignment
    ctx = TokenContext(GRID, index_BN, None, torch.ones(2, 3))
    part = HardOverlapRegionEncoder(6, REGIONS).assign(torch.randn(2, 3, 6), ids, ctx).assignment
    for b in range(2):
        torch.testing.assert_close(part[b], full[b, index_BN[b]])


def test_learned_without_maps_at_eval_predicts_the_same_with_and_without_map():
    tokens_BNE, ids = torch.randn(2, 12, 6), region_map()
    encoder = LearnedRegionEncoder(6, REGIONS, use_map_at_eval=False).eval()
    bare = encoder.assign(tokens_BNE, None, context()).assignment
    torch.testing.assert_close(encoder.assign(tokens_BNE, ids, context()).assignment, bare)
    assert not torch.allclose(encoder.train().assign(tokens_BNE, ids, context()).assignment, bare)
