"""Fine-tuning: optimizers, mixed and smoothed labels, metrics and sampling."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from support.classifying import CLASSES, batch, settings, task, vit
from support.given import Given, noise
from torch import nn

from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.kernels.crop import RandomCrop, WholeImage
from unmask.data.transforms.labelled.classification import TrainView
from unmask.errors import UserError
from unmask.evaluation.one_class import one_class
from unmask.tasks.classification.figures import headline
from unmask.tasks.classification.finetune import class_weights, make_loader, make_task
from unmask.tasks.classification.metrics import scores
from unmask.training.optimizer import make_optimizer


def test_a_step_of_lars_is_the_published_one():
    objective = task(protocol="linear", norm="batch")
    optimizer = make_optimizer(objective, "lars", 0.0)
    weight, bias = objective.classifier.head.weight, objective.classifier.head.bias
    nn.init.normal_(weight, std=0.1)
    start, moment = {"w": weight.detach().clone(), "b": bias.detach().clone()}, {"w": 0.0, "b": 0.0}
    for step in range(3):
        gradient = {"w": torch.randn_like(weight), "b": torch.randn_like(bias)}
        weight.grad, bias.grad = gradient["w"].clone(), gradient["b"].clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        optimizer.step()
        trust = 0.001 * start["w"].norm() / gradient["w"].norm()
        moment = {"w": 0.9 * moment["w"] + trust * gradient["w"], "b": 0.9 * moment["b"] + gradient["b"]}
        start = {key: start[key] - 0.5 * moment[key] for key in start}
        torch.testing.assert_close(weight.detach(), start["w"], msg=f"step {step}")
        torch.testing.assert_close(bias.detach(), start["b"])


def test_the_moving_average_equals_one_by_hand():
    objective = task(ema=0.5)
    assert objective.result is not objective.classifier
    by_hand, weight = None, objective.classifier.head.weight
    for step in range(6):
        nn.init.normal_(weight)
        objective.after_step(step / 6)
        decay = min(0.5, (1 + step) / (10 + step))
        value = weight.detach()
        by_hand = value.clone() if by_hand is None else decay * by_hand + (1 - decay) * value
        torch.testing.assert_close(objective.result.head.weight, by_hand)
    assert not any(p.requires_grad for p in objective.result.parameters())
    (x,) = batch()["views"]
    assert objective.result.eval()(x).shape == (6, 3)
    assert task().result is not None


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixed_targets_are_shares_of_both_classes(mixing, monkeypatch):
    seen = []
    objective = task(smoothing=0.1, **mixing)
    real = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        "unmask.tasks.classification.objective.cross_entropy", lambda x, y: seen.append(y) or real(x, y)
    )
    for seed in range(8):
        torch.manual_seed(seed)
        assert set(objective(batch())) == {"loss"}
    targets = torch.stack(seen)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(8, 6))
    assert targets.min() == pytest.approx(0.1 / 3)  # smoothing's share of the other classes
    assert ((targets > 0.04) & (targets < 0.9)).any()


def test_labels_are_smoothed_as_in_timm():
    from timm.loss import LabelSmoothingCrossEntropy

    objective = task(smoothing=0.1)
    nn.init.normal_(objective.classifier.head.weight)
    data = batch()
    loss = objective(data)["loss"]
    torch.testing.assert_close(
        loss, LabelSmoothingCrossEntropy(0.1)(objective.classifier(data["views"][0]), data["label"])
    )


def test_several_labels_are_judged_one_by_one_also_mixed():
    objective = task(multi_label=True, mixup=0.8, cutmix=1.0)
    data = batch() | {"label": torch.tensor([[1.0, 1, 0], [0, 0, 0]] * 3)}
    torch.manual_seed(0)
    assert torch.isfinite(objective(data)["loss"])
    plain = task(multi_label=True)
    loss = plain(data)["loss"]
    logits = plain.classifier(data["views"][0])
    torch.testing.assert_close(loss, nn.functional.binary_cross_entropy_with_logits(logits, data["label"]))
    assert ((plain.classifier.probabilities(data["views"][0]) - logits.sigmoid()).abs() < 1e-6).all()


def test_metrics_equal_scikit_learns():
    rng = np.random.default_rng(0)
    names, labels = [f"c{i}" for i in range(7)], rng.integers(0, 6, 200)  # the last class is not tested
    p = rng.dirichlet(np.ones(7), 200).astype(np.float32)
    found, answer = scores(p, labels, names), p.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, answer))
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(labels, p, k=5, labels=range(7)))
    recall = sk.recall_score(labels, answer, labels=range(6), average=None)
    assert found["balanced_accuracy"] == pytest.approx(recall.mean(), abs=1e-6)
    f1 = sk.f1_score(labels, answer, labels=range(6), average="macro")
    assert found["f1"] == pytest.approx(f1, abs=1e-6)
    assert found["cross_entropy"] == pytest.approx(sk.log_loss(labels, p, labels=range(7)), abs=1e-5)
    assert found["confusion"] == sk.confusion_matrix(labels, answer, labels=range(7)).tolist()
    *tested, untested = [c["recall"] for c in found["per_class"]]
    assert tested == pytest.approx(recall.tolist(), abs=1e-6)
    assert untested is None
    two = scores(p[:, :2] / p[:, :2].sum(axis=1, keepdims=True), labels % 2, names[:2])
    assert two["auroc"] == pytest.approx(
        sk.roc_auc_score(labels % 2, (p[:, 1] / p[:, :2].sum(axis=1)).astype(np.float32)), abs=1e-6
    )
    several = (rng.random((200, 4)) < 0.3).astype(np.int64)
    q = rng.random((200, 4)).astype(np.float32)
    found = scores(q, several, names[:4])
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(several, q), abs=1e-6)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(several, q), abs=1e-6)
    assert found["f1"] == pytest.approx(sk.f1_score(several, q > 0.5, average="macro"), abs=1e-6)
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(several, q > 0.5))
    confidence, right = p.max(axis=1), answer == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    expected = sum(
        abs((confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()) for b in set(bins)
    )
    assert scores(p, labels, [f"c{i}" for i in range(7)])["calibration_error"] == pytest.approx(expected, abs=1e-5)


class Numbers(Samples):
    """Images of one value each, with these labels."""

    channels = 3

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def image(self, i):
        return torch.full((3, 8, 8), i, dtype=torch.uint8)

    def substitute(self, i):
        return self.image(i), i


def test_a_classifier_that_answers_one_class_is_said_first():
    labels = np.array([0] * 70 + [1] * 30)
    sure = np.tile([0.7, 0.3], (100, 1)).astype(np.float32)
    result = scores(sure, labels, ["ant", "bee"])
    assert headline(result, ["ant", "bee"]).startswith(
        "It answers ant for every test image, so it tells no classes apart: its accuracy is the share of ant, 70.0 %. "
    )
    assert "It answers ant for 99 of 100" in one_class([[70, 0], [29, 1]], ["ant", "bee"])
    for table in ([[70, 0], [0, 30]], [[70, 0], [20, 10]], [[100, 0], [0, 0]], [[999, 0], [0, 1]]):
        assert one_class(table, ["ant", "bee"]) == ""


def test_batch_norm_over_one_image_at_a_time_is_refused():
    samples = Samples(Given([noise(i, (32, 32, 3)) for i in range(4)]), range(4), channels=3)
    single = settings(vit(), protocol="linear", norm="batch", batch=2, accumulate=2, balanced="off")
    with pytest.raises(UserError, match="BatchNorm before its head"):
        make_loader(samples, single, vit())
    assert make_loader(samples, replace(single, accumulate=1), vit()).batch == 2


def test_balanced_sampling_draws_classes_equally_often():
    samples = Numbers(torch.tensor([0] * 90 + [1] * 10))
    view = RandomCrop((8, 8), flip=False)
    for weights, share in ((class_weights(samples), 0.5), (None, 0.1)):
        stream = Loader(samples=samples, view=view, batch=50, weights=weights)(0)
        drawn = torch.cat([next(stream)["label"] for _ in range(20)])
        assert drawn.float().mean() == pytest.approx(share, abs=0.06)
    several = Numbers(torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0]]))
    assert class_weights(several).tolist() == pytest.approx([1 / 3, 1 / 3, 1.0, 1.0])


def test_augmentation_depends_on_its_generator_alone_and_leaves_global_chance_alone():
    chance = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (3, 40, 50), generator=chance).byte()
    view = TrainView(RandomCrop((32, 32)), (100.0,) * 3, (50.0,) * 3, "rand-m9-mstd0.5-inc1", 1.0)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = [view(image, torch.Generator().manual_seed(seed)) for seed in range(4)]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()  # noqa: NPY002
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    for seed, before in enumerate(first):
        assert torch.equal(view(image, torch.Generator().manual_seed(seed)), before)
        assert before.shape == (3, 32, 32)
        assert before.dtype == torch.uint8
    assert not torch.equal(first[0], first[1])
    with pytest.raises(UserError, match="as timm writes it"):
        TrainView(RandomCrop((32, 32)), (0.0,), (1.0,), "nonsense")


def test_the_centre_crop_is_resize_256_then_224():
    from torchvision.transforms.v2 import CenterCrop, InterpolationMode, Resize

    image = torch.randint(0, 256, (3, 70, 90), generator=torch.Generator().manual_seed(0)).byte()
    resize = Resize(64, interpolation=InterpolationMode.BICUBIC, antialias=True)
    theirs = CenterCrop(56)(resize(image))
    assert (WholeImage((56, 56), 56 / 64)(image).int() - theirs.int()).abs().max() <= 1
    assert torch.equal(WholeImage((56, 56), 1.0)(image), WholeImage((56, 56))(image))
    with pytest.raises(UserError, match="above 0 and at most 1"):
        WholeImage((56, 56), 0.0)


def test_from_scratch_takes_the_architecture_and_no_weights():
    encoder = vit()
    for scratch in (False, True):
        made = make_task(encoder, CLASSES, settings(encoder, scratch=scratch), scratch=scratch).encoder.net
        same = torch.equal(made.blocks[0].attn.qkv.weight, encoder.net.blocks[0].attn.qkv.weight)
        assert same != scratch
    own, fresh = (vars(settings(encoder, scratch=scratch)) for scratch in (False, True))
    changed_fields = {name for name in own if own[name] != fresh[name]}
    assert {"layer_decay", "weight_decay", "betas", "epochs"} <= changed_fields


def test_an_encoder_that_gave_its_norm_away_can_be_trained_again():
    encoder = task().encoder
    for protocol in ("full", "linear"):
        made = make_task(encoder, CLASSES, settings(encoder, protocol=protocol))
        assert torch.equal(made.encoder.net.pos_embed, encoder.net.pos_embed)
        assert torch.isfinite(made(batch())["loss"])
