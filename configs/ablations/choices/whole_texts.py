# An impression is embedded as one text, not as the sum of its sentences.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(by_sentence=False)
