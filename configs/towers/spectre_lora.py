# SPECTRE-Large with adapters (LoRA).
_base_ = ["spectre_frozen.py"]
model = dict(backbone=dict(train="lora"))
