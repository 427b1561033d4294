"""The attentive probe where the encoder computes in bf16."""

import torch
from support.classifying import vit
from support.sampling import write_samples

from unmask.data.datasets.classification import Labelled
from unmask.evaluation.attentive import _tokens, attentive_probe


def test_a_probe_computes_in_fp32_of_tokens_in_bf16(tmp_path):
    labelled = Labelled([str(write_samples(tmp_path / "data", "image"))], max_side=64)
    encoder = vit()
    tokens = _tokens(encoder, labelled, "val", "cpu", torch.bfloat16)
    assert next(tokens).dtype == torch.float16
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled()
    probed = attentive_probe(encoder, labelled, "cpu", torch.bfloat16, 0)
    assert 0 <= probed.val_accuracy <= 1
