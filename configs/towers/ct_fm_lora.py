# CT-FM's encoder with adapters (LoRA).
_base_ = ["ct_fm_frozen.py"]
model = dict(backbone=dict(train="lora"))
