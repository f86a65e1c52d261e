# Report generation with the encoder of a trained checkpoint: steps with their regions, then the impression.
_base_ = ["vit3d_cot_contrastive.py"]

# Written by: python tools/train.py configs/vit3d_cot_contrastive.py
load_from = "work_dirs/vit3d_cot_contrastive/epoch_8.pth"
load_strict = False  # the head is new

model = dict(
    frozen=["backbone"],  # the head learns better from fixed features
    losses=dict(_delete_=True),
    objectives=dict(
        generation=dict(
            type="GenerationObjective",
            head=dict(
                type="CoTGenerationHead",
                num_regions=20,
                vocab_size=1024,
                embed_dims=128,
                depth=3,
                num_heads=4,
                dropout=0.0,  # the wording of every case changes in each epoch (reword=True)
                max_length=384,
                # The most probable report is short. Sample 32 reports and keep the one closest to all others.
                generation=dict(do_sample=True, top_k=0, temperature=0.7, num_return_sequences=32),
            ),
        )
    ),
)
# The loss does not use the text encoder and the projections.
find_unused_parameters = True

train_dataloader = dict(dataset=dict(num_cases=2560, reword=True, pipeline=[dict(type="PackCTInputs")]))
train_cfg = dict(max_epochs=10, val_interval=10)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
]

val_evaluator = [dict(type="ReportGenerationMetric", reference="both", label_reports=True, baseline=True)]
test_evaluator = val_evaluator
