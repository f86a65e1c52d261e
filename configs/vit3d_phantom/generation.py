# Generation of reasoning steps from the fixed features of alignment.py.
_base_ = ["alignment.py"]

# Written by: python tools/train.py configs/vit3d_phantom/alignment.py
load_from = "work_dirs/alignment/epoch_5.pth"
load_strict = False  # the generation head is new

# Whole scans, because the text describes the whole scan.
train_pipeline = [
    dict(type="RandomResizedCropCT", shape=(48, 96, 96), p=0.0),
    dict(type="RandomRegionContrastCT", max_std=60, p=0.5),
    dict(type="RandomIntensityCT", shift=20, contrast=0.1, p=1.0),
    dict(type="PackCTInputs"),
]
train_dataloader = dict(dataset=dict(reword=True, pipeline=train_pipeline))

model = dict(
    frozen=[
        "backbone",
        "text_encoder",
        "space",
        "objectives.volume",
        "objectives.region",
        "objectives.step",
        "objectives.focus",
        "objectives.regions",
        "objectives.voxels",
    ],
    objectives=dict(
        generation=dict(
            type="GenerationObjective",
            head=dict(
                type="CoTGenerationHead",
                num_regions=20,
                vocab_size=1024,
                embed_dims=96,
                depth=2,
                num_heads=4,
                dropout=0.0,  # the wording of every case changes in each epoch (reword=True)
                max_length=384,
                # The most probable report is short. Sample 8 reports and keep the one closest to all others.
                generation=dict(do_sample=True, top_k=0, temperature=0.7, num_return_sequences=8),
            ),
        )
    ),
)
find_unused_parameters = True

train_cfg = dict(max_epochs=3, val_interval=3)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
]

val_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RegionTextMetric"),
    dict(type="StepTextMetric"),
    dict(type="AlignmentMetric"),
    dict(type="ReportGenerationMetric", reference="both", label_reports=True, baseline=True),
]
test_evaluator = val_evaluator
