import torch

from ctvlm.models.vlms.text_batch import RegionMentions, TextBatch, text_id
from ctvlm.structures import CoTStep, CTDataSample


def sample(impression, *steps):
    return CTDataSample(impression=impression, steps=[CoTStep(text, regions) for text, regions in steps])


SAMPLES = [
    sample("Nodule.", ("Nodule in the liver.", (12,)), ("Liver and spleen otherwise normal.", (12, 14))),
    sample("Normal.", ("Lungs clear.", (1, 2))),
    sample("Nodule."),
]


def test_each_text_is_encoded_once():
    texts = TextBatch.from_samples([*SAMPLES, *SAMPLES])
    assert len(texts.texts) == len(set(texts.texts)) == 5
    assert [texts.texts[i] for i in texts.impressions] == ["Nodule.", "Normal.", "Nodule."] * 2
    _, _, ids = texts.impression_pairs(torch.device("cpu"))
    assert ids[0] == ids[2] != ids[1]


def test_steps_are_padded():
    index, mask, ids = TextBatch.from_samples(SAMPLES).padded_steps(torch.device("cpu"))
    assert mask.tolist() == [[True, True], [True, False], [False, False]]
    assert index.shape == ids.shape == (3, 2)


def test_mentions_average_their_steps_and_skip_unseen_regions():
    visible = torch.ones(3, 20, dtype=torch.bool)
    visible[1, 1] = False
    texts = TextBatch.from_samples(SAMPLES)
    mentions = RegionMentions.from_samples(SAMPLES, texts, visible)
    assert list(zip(mentions.cases.tolist(), mentions.regions.tolist(), strict=True)) == [(0, 12), (0, 14), (1, 1)]
    embeddings = torch.randn(len(texts.texts), 4)
    expected = (embeddings[texts.steps[0][0]] + embeddings[texts.steps[0][1]]) / 2
    torch.testing.assert_close(mentions.mean_text(embeddings)[0], expected)


def test_text_ids_do_not_depend_on_the_process():
    assert text_id("No pleural effusion.") == 1528515884680363796
    assert text_id("a", "b") != text_id("ab")
