# Writing the reasoning, from the encoder of a trained checkpoint: steps that name their regions, then the impression.
_base_ = ["vit3d_cot_contrastive.py"]

# What this command leaves: python tools/train.py configs/vit3d_cot_contrastive.py
load_from = "work_dirs/vit3d_cot_contrastive/epoch_7.pth"
load_strict = False  # the head is new

model = dict(
    losses=dict(_delete_=True),  # leave this line out to go on aligning text beside it, at half the speed
    auxiliary=dict(
        generation=dict(
            type="CoTGenerationHead",
            num_regions=20,
            vocab_size=1024,
            embed_dims=128,
            depth=3,
            num_heads=4,
            # Few passes over many phantoms: there is nothing to learn by heart.
            dropout=0.0,
            max_length=384,
        )
    ),
)
# The text tower and projections take no part in the loss.
find_unused_parameters = True

train_dataloader = dict(dataset=dict(num_cases=2560))
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}))

val_evaluator = [dict(type="ReportGenerationMetric", reference="both", label_reports=True, baseline=True)]
test_evaluator = val_evaluator
