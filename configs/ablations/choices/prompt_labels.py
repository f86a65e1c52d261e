# An additional loss: the labels of the findings, against the prompts "... is present." and "... is not present.".
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(objectives=dict(prompts=dict(type="PromptClassificationObjective")))
