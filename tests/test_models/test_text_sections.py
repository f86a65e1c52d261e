from hypothesis import given, settings, strategies as st

from ctvlm.models.text_encoders.sections import split_tokens


def characters(texts):
    """A tokenizer whose pieces are the characters that are not white space."""
    return [[ord(c) for c in text if not c.isspace()] for text in texts]


def sections(text, room):
    return ["".join(map(chr, ids)) for ids in split_tokens(text, characters([text])[0], room, characters)]


def test_sections_end_where_sentences_end():
    text = "Lung is clear. No effusion.\nA nodule of 1.5 cm. Bones: normal"
    assert sections(text, 24) == ["Lungisclear.Noeffusion.", "Anoduleof1.5cm.", "Bones:normal"]


def test_only_a_sentence_that_is_too_long_is_cut():
    assert sections("Ab. Cdefghij. Kl.", 4) == ["Ab.", "Cdef", "ghij", ".Kl."]


def test_text_that_fits_stays_whole():
    assert sections("One. Two.", 8) == ["One.Two."]
    assert split_tokens("", [], 8, characters) == [[]]


@settings(deadline=None)
@given(st.text(alphabet="ab.;\n ", max_size=60), st.integers(1, 12))
def test_nothing_is_lost_and_every_section_fits(text, room):
    parts = sections(text, room)
    assert "".join(parts) == "".join(text.split())
    assert all(len(part) <= room for part in parts)
