# Pretraining on regions only, without text: an encoder that predicts regions of CTs. Use its weights for
# vit3d_cot_contrastive_bare.py
# (--cfg-options load_from=work_dirs/vit3d_region_pretrain/epoch_8.pth);
# tools/analysis_tools/region_dice.py measures it.
_base_ = ["vit3d_cot_contrastive_bare.py"]

model = dict(data_preprocessor=dict(region_map_drop=1.0), losses=dict(volume=None, region=None, step=None, focus=None))
# The text encoder and the projections are not trained.
find_unused_parameters = True
# The validation metrics of the base config need text.
val_cfg = None
val_dataloader = None
val_evaluator = None
