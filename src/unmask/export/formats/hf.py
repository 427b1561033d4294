"""Hugging Face transformers: folders that `from_pretrained` opens offline. Key names are those of the hub's files.

transformers has one plain ViT: a class token, a position table, pre-norm blocks. Other encoders are refused, with the
reason; a classifier that pools the mean of its patches is written for transformers' wrapper of timm models instead.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unmask.errors import Unequal, UserError
from unmask.export.exportable import Exportable, Format, Opened, Outputs
from unmask.export.hf_names import encoder_state, mae_config, mae_state, vit_config, why_not_mae, why_not_vit
from unmask.export.timm_repository import plain_head, why_not_timm, write_repository
from unmask.files import Json, parse_json
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder

__all__ = ["HuggingFace"]
OTHER = "what works: --to timm (transformers opens that folder too, with AutoModel), onnx, torch_export"


class HuggingFace(Format):
    needs = ("transformers",)
    library = "transformers"

    def refuse(self, subject: Exportable) -> str:
        """Refuses an encoder that is not transformers' ViT. A decoder other than MAE's is left out, with a remark."""
        if kind := subject.dense():
            raise UserError(f"--to hf: transformers has no {kind}s of this kind; what works: onnx, torch_export")
        why, model = why_not_vit(subject.encoder), subject.classifier
        name = subject.encoder.arguments["model_name"]
        if model is None:
            if why:
                raise UserError(f"--to hf: transformers' ViT cannot hold {name}: {why}; {OTHER}")
            why = why_not_mae(subject)
            return f"hf: ViTModel is written, but not ViTMAEForPreTraining: {why}" if why else ""
        if not wrapped(model):
            return ""
        no_timm = why_not_timm(model)
        if no_timm:
            raise UserError(
                f"--to hf: neither transformers' ViT nor its timm wrapper can hold this classifier ({no_timm});"
                " what works: onnx, torch_export"
            )
        if model.pooling != "cls":
            why = f"it reads the class token alone, and this classifier pools the {model.pooling} of its patches"
        return (
            f"hf: ViTForImageClassification cannot hold it: {why}; written as TimmWrapperForImageClassification, which"
            " needs timm beside transformers"
        )

    def write(self, subject: Exportable, folder: Path) -> None:
        """Writes the trained model into `folder`, and the bare encoder of a pretraining run into `folder/vit`."""
        model, encoder = subject.classifier, subject.encoder
        if model is None:
            if not why_not_mae(subject):
                _save(folder, "ViTMAEForPreTraining", mae_state(subject), mae_config(subject))
                _save_processor(folder, encoder)
            _save(folder / "vit", "ViTModel", encoder_state(encoder), vit_config(encoder))
            _save_processor(folder / "vit", encoder)
        elif wrapped(model):
            write_repository(model, folder)
        else:
            head = dict(zip(("classifier.weight", "classifier.bias"), plain_head(model)))
            state = encoder_state(encoder, "vit.") | head
            names = dict(enumerate(model.classes))
            labels = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
            kind = "multi_label_classification" if model.multi_label else "single_label_classification"
            _save(folder, "ViTForImageClassification", state, vit_config(encoder) | labels | {"problem_type": kind})
            _save_processor(folder, encoder)

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Opens with `from_pretrained`, offline; the image processor normalises."""
        import transformers

        if subject.classifier:
            kind = transformers.AutoModelForImageClassification
            return [Opened(folder, partial(_classify, _load(kind, folder), _normalizer(folder)))]
        opened = []
        if not why_not_mae(subject):
            mae = _load(transformers.ViTMAEForPreTraining, folder)
            opened.append(Opened(folder, partial(_rebuild, mae, _normalizer(folder), subject)))
        vit = _load(transformers.ViTModel, folder / "vit", add_pooling_layer=False)
        return [*opened, Opened(folder / "vit", partial(_encode, vit, _normalizer(folder / "vit")))]

    def how(self, subject: Exportable, folder: str) -> str:
        """Opens the encoder, which has a folder of its own because ViTMAE hides patches whenever it is called."""
        start = "import torch\nfrom transformers import "
        pixels = 'pixels = torch.from_numpy(prepare("image.jpg"))\n'
        if subject.classifier:
            kind = "AutoModelForImageClassification"
            use = f'model = {kind}.from_pretrained("{folder}")\n'
            return f"{start}{kind}\n\n{use}{pixels}logits = model(pixel_values=pixels).logits"
        mae = (
            ""
            if why_not_mae(subject)
            else f'mae = ViTMAEForPreTraining.from_pretrained("{folder}")  # with the decoder\n'
        )
        use = f'vit = ViTModel.from_pretrained("{folder}/vit", add_pooling_layer=False)\n'
        names = "ViTModel" if not mae else "ViTMAEForPreTraining, ViTModel"
        call = "tokens = vit(pixel_values=pixels).last_hidden_state  # the class token first"
        return f"{start}{names}\n\n{mae}{use}{pixels}{call}"


def wrapped(model: Classifier) -> bool:
    """True if a classifier is written for transformers' wrapper of timm models; transformers' own ViT pools the class
    token only."""
    return model.pooling != "cls" or model.norm_kind == "layer" or bool(why_not_vit(model.encoder))


def _save(folder: Path, architecture: str, state: dict[str, Tensor], config: Json) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {name: value.detach().clone().contiguous() for name, value in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", {"architectures": [architecture], "dtype": "float32", **config})


def _save_processor(folder: Path, encoder: Encoder) -> None:
    content = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": dict(zip(("height", "width"), encoder.grid.size)),
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [m / 255 for m in encoder.mean.tolist()],
        "image_std": [s / 255 for s in encoder.std.tolist()],
    }
    _write_json(folder / "preprocessor_config.json", content)


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    """Loads strictly: transformers itself only warns about missing or unexpected weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    finally:
        if shown:
            logging.enable_progress_bar()
    wrong = {name: sorted(info[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[name]}
    if wrong:
        raise Unequal(f"transformers does not take all weights of {folder.name}: {wrong}")
    return model.eval()


def _normalizer(folder: Path) -> Callable[[Tensor], Tensor]:
    """The normalisation of the written image processor. Its resize changes nothing, since the images have the size."""
    path = folder / "preprocessor_config.json"
    if not path.exists():  # written for timm's wrapper
        own = parse_json((folder / "config.json").read_text(encoding="utf-8"))["pretrained_cfg"]
        mean, std = (torch.tensor(own[name]).view(-1, 1, 1) for name in ("mean", "std"))
        return lambda raw: (raw / 255 - mean) / std
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor.from_pretrained(folder, local_files_only=True)
    options = {"do_resize": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    return lambda raw: processor(list(raw), **options)["pixel_values"]


@torch.no_grad()
def _classify(model: Any, normalize: Callable[[Tensor], Tensor], raw: Tensor) -> Outputs:
    return {"logits": model(pixel_values=normalize(raw)).logits}


@torch.no_grad()
def _encode(model: Any, normalize: Callable[[Tensor], Tensor], raw: Tensor) -> Outputs:
    tokens = model(pixel_values=normalize(raw)).last_hidden_state
    return {"class_token": tokens[:, 0], "patch_tokens": tokens[:, 1:], "features": tokens[:, 1:].mean(dim=1)}


@torch.no_grad()
def _rebuild(model: Any, normalize: Callable[[Tensor], Tensor], subject: Exportable, raw: Tensor) -> Outputs:
    return {"loss": model(pixel_values=normalize(raw), noise=subject.noise(len(raw))).loss}
