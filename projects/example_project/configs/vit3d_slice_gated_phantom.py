_base_ = ["../../../configs/vit3d_cot_contrastive.py"]
custom_imports = dict(imports=["projects.example_project.slice_gated_attention"])

model = dict(backbone=dict(block=dict(attention=dict(type="SliceGatedAttention"))))
