"""The packed BERT equals transformers' BertModel, which reads padded texts."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from ctvlm.models.text_encoders.packed_bert import PackedBert, attention_passes

SIZES = dict(vocab_size=40, embed_dims=24, depth=2, num_heads=3, max_length=16, pad_id=0)


def build(dropout: float = 0.0) -> PackedBert:
    torch.manual_seed(0)
    return PackedBert(**SIZES, dropout=dropout).double()


def reference(packed: PackedBert) -> BertModel:
    config = BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        max_position_embeddings=16, type_vocab_size=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).double()
    bert.load_state_dict(packed.state_dict())
    return bert


def texts_of(lengths: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 40, (length,), generator=generator) for length in lengths]


def run(packed: PackedBert, texts: list[torch.Tensor], largest_pass: int = 32, cost: int = 10) -> torch.Tensor:
    lengths = [len(text) for text in texts]
    positions = torch.cat([torch.arange(length) for length in lengths])
    passes = attention_passes(lengths, largest_pass, cost, torch.device("cpu"))
    return packed(torch.cat(texts), positions, passes)


@pytest.mark.parametrize("largest_pass, cost", [(32, 0), (32, 1000), (2, 10)])
def test_equals_transformers_with_gradients(largest_pass, cost):
    packed, texts = build(), texts_of([3, 3, 4, 7, 7, 16])
    bert = reference(packed)
    # The same order of parameters: a saved optimizer state refers to it.
    assert [name for name, _ in bert.named_parameters()] == [name for name, _ in packed.named_parameters()]
    ours = run(packed, texts, largest_pass, cost)
    theirs = torch.cat([bert(input_ids=text[None]).last_hidden_state[0] for text in texts])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for features in (ours, theirs):
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    for (name, p), q in zip(packed.named_parameters(), bert.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-9, msg=name)


def test_initial_weights_have_the_distribution_of_transformers():
    packed, bert = build(), reference(build())
    torch.manual_seed(0)
    bert.init_weights()
    for (name, ours), theirs in zip(packed.named_parameters(), bert.parameters(), strict=True):
        assert abs(ours.mean() - theirs.mean()) < 0.005, name
        assert abs(ours.std() - theirs.std()) < 0.005 if ours.numel() > 1 else True, name
    assert not packed.embeddings.word_embeddings.weight[0].any()


def test_dropout_applies_in_training_only():
    packed, texts = build(0.5), texts_of([4, 6])
    assert not torch.equal(run(packed, texts), run(packed, texts))
    packed.eval()
    assert torch.equal(run(packed, texts), run(packed, texts))
