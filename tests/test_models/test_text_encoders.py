import io
import subprocess
import sys

import pytest
import torch

from ctvlm.models.text_encoders import CompactTextEncoder
from ctvlm.registry import TEXT_ENCODERS

TEXTS = ["Small nodule in the right upper lobe.", "No pleural effusion.", "The liver is normal. " * 60]


@pytest.fixture()
def encoder():
    torch.manual_seed(0)
    encoder = TEXT_ENCODERS.build(
        dict(type="CompactTextEncoder", vocab_size=320, embed_dims=32, depth=1, num_heads=2, max_length=16)
    )
    encoder.fit_tokenizer(TEXTS)
    return encoder.eval()


def test_embedding_does_not_depend_on_the_batch(encoder):
    together = encoder(TEXTS)
    assert together.shape == (3, 32)
    for row, text in enumerate(TEXTS):
        torch.testing.assert_close(encoder([text])[0], together[row], rtol=1e-4, atol=1e-5)


def test_long_text_is_split_not_cut(encoder):
    """A change past the model's limit still changes the embedding."""
    assert len(encoder.tokenize([TEXTS[2]])[0]) > encoder.max_length
    changed = encoder([TEXTS[2], TEXTS[2] + TEXTS[0]])
    assert (changed[0] - changed[1]).abs().max() > 1e-4


def test_state_dict_alone_restores_the_encoder(encoder):
    buffer = io.BytesIO()
    torch.save(encoder.state_dict(), buffer)
    buffer.seek(0)
    fresh = CompactTextEncoder(vocab_size=320, embed_dims=32, depth=1, num_heads=2, max_length=16)
    assert fresh.needs_tokenizer
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert not fresh.needs_tokenizer
    assert torch.equal(fresh.eval()(TEXTS), encoder(TEXTS))


def test_tokenizer_does_not_depend_on_the_order_of_texts(encoder):
    other = CompactTextEncoder(vocab_size=320, embed_dims=32, depth=1, num_heads=2, max_length=16)
    other.fit_tokenizer(TEXTS[::-1] + TEXTS)
    assert other.tokenizer_state() == encoder.tokenizer_state()


def test_tokenizer_is_the_same_in_another_process(encoder):
    """Hash order differs between processes; the pieces must not."""
    program = f"from ctvlm.text.tokenizer import train_tokenizer\nprint(train_tokenizer({TEXTS!r}, 320).to_str())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert other.strip() == encoder.tokenizer_state()


def test_empty_text_has_a_finite_embedding(encoder):
    assert torch.isfinite(encoder([""])).all()


def test_errors_for_empty_texts_and_without_a_tokenizer():
    encoder = CompactTextEncoder(vocab_size=320, embed_dims=32, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="^texts: found 2"):
        encoder.fit_tokenizer(["", " "])
    with pytest.raises(RuntimeError, match="FitTokenizerHook"):
        encoder(["liver"])
