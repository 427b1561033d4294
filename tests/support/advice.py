"""Facts about ordinary images, as `advise` gathers them."""

from unmask.studies.advice.facts import Facts

FACTS = Facts(
    images=3000, looked=1000, unseen=2000, bad_share=0.0, channels=3, side=224, size_ratio=1.0, kind="photographs",
    evidence="edges", guessed=False, near_share=0.0, framed_alike=0.1, grey_as_colour=0.0, leaked=0, classes=10,
    labels_per_class=200, annotated="none", device="cpu", memory=16.0, image_size=64, patches=64, lost=0.05,
    epochs=300.0, hours_for_100=1.0,
)  # fmt: skip
