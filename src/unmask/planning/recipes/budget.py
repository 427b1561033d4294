"""Pretraining on a budget: published ways to cut the cost of MAE at about equal quality, for data of any size.

- a higher mask ratio with a decoder that predicts only some hidden units, which do not attend to each other: CrossMAE,
Fu et al. 2024 (arXiv 2401.14391). A high ratio alone saves little, since a full decoder processes hidden units too; - a
shallow decoder, a high ratio and fewer epochs: MAE are Secretly Efficient Learners, CVPR workshops 2024; - small crops
at first: DailyMAE, Wu et al. 2024 (arXiv 2404.00509). MAE's fixed position tables make that exact; - several masks of
each decoded image: EMAE, Li et al. 2023 (arXiv 2302.14431). On a GPU only, by default: on a CPU decoding takes a
percent of the time.

Unlike published recipes, this one fixes no model, batch or length: the plan chooses them for the data and the machine,
together with the decoder's size, masks per image and at most 300 epochs.
"""

from unmask.planning.recipe_book import Recipe, fixed

__all__ = ["RECIPES"]

RECIPES = [
    Recipe(
        "budget",
        "pretrain",
        "Any ViT, any data: 85 % hidden, a shallow cross-attention decoder, small crops at first, at most 300 epochs",
        "ImageNet-1K top-1 82.9 to 83.0 % fine-tuned (the same); this combination is ours",
        fixed({"mask": "random(ratio=0.85)", "decoder": "cross", "resolutions": "auto"}),
        cost="ViT-B/16 in 9 to 12.6 h on one A100 (Secretly Efficient Learners' own recipe, whose parts these are)",
        ours="see results.md",
    )
]
