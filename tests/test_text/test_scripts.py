from ctvlm.text import is_latin, split_sentences, words


def test_words_of_ascii_text_are_those_of_rouge_score():
    from rouge_score.tokenizers import DefaultTokenizer

    text = "No effusion; a 3.5 mm nodule (RUL), T12-L1 & re-scan."
    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_words_of_other_scripts():
    assert words("右肺 5.5 mm。") == ["右", "肺", "5", "5", "mm"]
    assert words("결절이 있다. Лёгкое") == ["결절이", "있다", "лёгкое"]


def test_script():
    assert is_latin("Größe 5 µm, α") is False and is_latin(
        "The nodule has a size of 5 µm and is 30 mm from the α hilum"
    )
    assert is_latin("") and is_latin("5.5") and not is_latin("右肺 CT")


def test_split_sentences_keeps_all_characters():
    text = "1. Узел. \u2028 右肺。No. 3 is (e.g. old). Dr. X \x85 "
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
