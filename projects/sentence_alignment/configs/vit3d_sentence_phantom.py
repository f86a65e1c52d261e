_base_ = ["../../../configs/vit3d_cot_contrastive.py"]
custom_imports = dict(imports=["projects.sentence_alignment.sentence_patch_objective"])

model = dict(objectives=dict(sentence=dict(type="SentencePatchObjective")))
