# The base preset with the optimizer's state shared out among the ranks (ZeRO): each keeps 1/n of AdamW's 8 bytes per
# parameter. Checkpoints are complete, and fit the base config too.
_base_ = ["vit3d_cot_contrastive_base.py"]

optim_wrapper = dict(optimizer=dict(type="ShardedOptimizer", optimizer_type="AdamW"))
