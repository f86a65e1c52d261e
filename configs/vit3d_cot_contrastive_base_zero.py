# The base preset with the optimizer's state shared out among the ranks (ZeRO): each keeps 1/n of AdamW's 8 bytes per
# parameter. Checkpoints are complete, and fit the base config too. Weights and gradients stay whole: for 136 M
# parameters that is 1.1 GB, which sharding them too (FSDP) would save at the price of gathering them in every layer.
_base_ = ["vit3d_cot_contrastive_base.py"]

optim_wrapper = dict(optimizer=dict(type="ShardedOptimizer", optimizer_type="AdamW"))
