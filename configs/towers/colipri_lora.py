# COLIPRI's image encoder with adapters (LoRA).
_base_ = ["colipri_frozen.py"]
model = dict(backbone=dict(train="lora"))
