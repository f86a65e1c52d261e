"""Which texts of a batch say the same."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def same_text(
    text_mP: Tensor,
    ids_m: Tensor,
    text_MP: Tensor,
    ids_M: Tensor,
    similar: float | None = None,
    counts_M: Tensor | None = None,
) -> Tensor:
    """True where row text and column text say the same (m, M): equal ids, or nearly equal embeddings.

    Duplicates are false negatives of one another: 14% of CT-RATE's impressions are duplicates, and more say the same in
    other words. Two texts are nearly equal where the cosine of their embeddings, from which the mean of all M texts is
    subtracted, reaches ``similar``. Why so:

    - Without the mean, texts of one field lie in a narrow cone, where any two have a cosine of 0.9. And were all texts
      to fall on one point, all would be positives of each other, and nothing would pull them apart again. After
      centring the cosines cannot all be high, because the vectors sum to 0: what is near is near against this batch.
      A mean of few texts says little, so the option is for batches of dozens of texts; of two, none are near.
    - A threshold, not the cosine itself as a weight: a text of another finding gets no share of the positive mass,
      however similar its wording.
    - The answer carries no gradient, so that no text moves in order to become a positive.

    The relation is symmetric, and does not depend on which rows a rank holds. Rows where ``counts_M`` is False are not
    in the mean.
    """
    same_mM = ids_m[:, None] == ids_M[None, :]
    if similar is None or len(ids_M) == 0:
        return same_mM
    text_mP, text_MP = text_mP.detach(), text_MP.detach()
    if counts_M is None:
        mean_P = text_MP.mean(dim=0)
    else:
        mean_P = (text_MP * counts_M[:, None]).sum(dim=0) / counts_M.sum().clamp(min=1)
    cosine_mM = F.normalize(text_mP - mean_P, dim=-1) @ F.normalize(text_MP - mean_P, dim=-1).t()
    return same_mM | (cosine_mM >= similar)
