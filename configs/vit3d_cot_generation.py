# Goes on from the default with a head that writes the reasoning: steps that name their regions, then the impression.
_base_ = ["vit3d_cot_contrastive.py"]

# What this command leaves: python tools/train.py configs/vit3d_cot_contrastive.py
load_from = "work_dirs/vit3d_cot_contrastive/epoch_7.pth"
load_strict = False  # the head is new

model = dict(
    auxiliary=dict(
        generation=dict(
            type="CoTGenerationHead",
            num_regions=20,
            vocab_size=1024,
            embed_dims=128,
            depth=2,
            num_heads=4,
            max_length=384,
        )
    )
)
val_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RegionTextMetric"),
    dict(type="AlignmentMetric"),
    dict(type="ReportGenerationMetric", reference="both", label_reports=True, baseline=True),
]
test_evaluator = val_evaluator
