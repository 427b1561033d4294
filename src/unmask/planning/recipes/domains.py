"""MAE for images that are not photographs. Ratios and crops are those that publications used for such data, where there
are any; model, image size, batch and length are the plan's, for the data and the machine.

Ratios rise with redundancy: language 15 %, images 75 %, video 90 %. What holds for yours is measured by `unmask tune
DATA --on LABELLED --axes ratio`.
"""

from unmask.planning.recipe_book import Recipe, Setting, Values

__all__ = ["RECIPES"]
OURS = "no publication: the settings are ours"


def medical_xray(setting: Setting) -> Values:
    """Chest X-rays: more hidden than in photographs, crops of at least half of the image, a decoder of two blocks."""
    size = "dim=128, depth=2, heads=4" if setting.small else "dim=512, depth=2, heads=16"
    return {"mask": "random(ratio=0.9)", "decoder": f"full({size})", "crop": 0.5}


def texture(setting: Setting) -> Values:
    """Surfaces, fabrics, tissue: crops that keep the scale, since that of a texture has a meaning."""
    return {"mask": "random(ratio=0.75)", "target": "pixels", "crop_kind": "fixed"}


def document(setting: Setting) -> Values:
    """Pages of text: crops that do not cut lines short, nothing mirrored. Normalised by patch, every stroke counts the
    same and the grain of empty paper as much: benchmarks/text_normalisation.py measures what that does."""
    return {"mask": "random(ratio=0.75)", "target": "pixels", "crop": 0.5, "flip": "off"}


def fine_grained(setting: Setting) -> Values:
    """Classes that differ in detail, such as birds: ImageNet's ratio. That a lower one is better has not been shown."""
    return {"mask": "random(ratio=0.75)", "target": "pixels", "crop": 0.2}


def satellite(setting: Setting) -> Values:
    """Images from above, with any number of bands: small and fine detail predicted apart, as in Scale-MAE, whose larger
    target is not here. Positions by ground distance and groups of bands are options of scenes, `--modality bands(...)`.
    """
    return {"mask": "random(ratio=0.75)", "target": "frequency(mode='laplacian')", "crop": 0.2, "flip": "on"}


RECIPES = [
    Recipe(
        "medical_xray",
        "pretrain",
        "X-rays: 90 % hidden, crops of half of the image or more, a decoder of two blocks",
        "NIH chest X-rays mean AUC 82.3 (ViT-S), 83.0 (ViT-B) after 800 epochs (medical_mae's repository)",
        medical_xray,
        source="Xiao et al. 2023",
    ),
    Recipe("texture", "pretrain", "Textures: crops that keep the scale", OURS, texture),
    Recipe("document", "pretrain", "Text: large crops, nothing mirrored", OURS, document),
    Recipe(
        "fine_grained",
        "pretrain",
        "Classes that differ in detail: ImageNet's ratio and crops",
        "MAE ViT-B/16 with ImageNet's settings about 83.5 % on CUB-200, fine-tuned (an issue of SemMAE's repository);"
        " no controlled study of the ratio",
        fine_grained,
    ),
    Recipe(
        "satellite",
        "pretrain",
        "Satellite images of any number of bands: a Laplacian pyramid predicted",
        "SatMAE ViT-L, ratio 75 %: fMoW top-1 77.78 % RGB, 79.99 % temporal (its repository); Scale-MAE: not in our"
        " sources",
        satellite,
        source="Scale-MAE arXiv 2212.14532",
    ),
]
