"""Codebooks and the networks around them."""

import pytest
import torch
from support.methods import small_encoder, small_method, views_of

from unmask.errors import UserError
from unmask.models.layers.codebook import Codebook
from unmask.models.tokenizer import Autoencoder
from unmask.models.tokenizers.dalle import DallE
from unmask.registry import build, names
from unmask.weights.tokenizers import open_tokenizer, save_tokenizer

DECODER = "full(dim=16, depth=1, heads=2)"


def clusters(count=64, seed=0):
    """Vectors around four points, b n d."""
    generator = torch.Generator().manual_seed(seed)
    points = 3 * torch.eye(4)
    return points[torch.arange(count) % 4].reshape(4, -1, 4) + 0.1 * torch.randn(4, count // 4, 4, generator=generator)


@pytest.mark.parametrize("unit", [False, True])
def test_codes_move_to_what_they_stand_for(unit):
    torch.manual_seed(0)
    book = Codebook(8, 4, decay=0.5, unit=unit).train()
    for seed in range(30):
        quantised = book(clusters(seed=seed).requires_grad_())
        book.move()
    points = torch.eye(4) * (1 if unit else 3)
    assert torch.cdist(points, book.codes).amin(dim=1).max() < 0.3
    assert 3.9 < quantised.perplexity.item() <= 8
    assert quantised.commitment < 0.05


def test_the_gradient_passes_by_the_codes_and_pulls_vectors_to_them():
    x = clusters().requires_grad_()
    quantised = Codebook(8, 4)(x)
    (quantised.vectors * torch.arange(4.0)).sum().backward()
    assert torch.equal(x.grad, torch.arange(4.0).expand_as(x))
    x.grad = None
    Codebook(8, 4)(x).commitment.backward()
    assert x.grad.abs().sum() > 0


def test_codes_that_stand_for_nothing_start_anew_at_vectors_of_the_batch():
    torch.manual_seed(0)
    book = Codebook(6, 4, decay=0.5).train()
    with torch.no_grad():
        book.codes[2:] += 100.0  # far from everything
    book.sums.copy_(book.codes)
    for seed in range(12):
        book(clusters(seed=seed).requires_grad_())
        book.move()
    assert book.codes.abs().max() < 4
    assert len(book.ids(clusters()).unique()) == 6


def test_k_means_finds_the_clusters_and_is_the_same_every_time():
    first, second = Codebook(4, 4), Codebook(4, 4)
    for book in (first, second):
        book.start(clusters().flatten(0, 1))
    assert torch.equal(first.codes, second.codes)
    few = Codebook(20, 4)
    few.start(clusters(16).flatten(0, 1))
    assert few.codes.isfinite().all()
    assert len(few.codes.unique(dim=0)) > 4


def test_a_step_that_does_not_count_moves_no_code_and_is_forgotten():
    book = Codebook(4, 4, decay=0.5).train()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(clusters().requires_grad_())
    book.move(torch.tensor(False))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())
    book(clusters().requires_grad_())
    book.forget()
    book.move(torch.tensor(True))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_parts_of_a_batch_move_the_codes_as_the_whole_does():
    torch.manual_seed(0)
    whole, parts = Codebook(4, 4), Codebook(4, 4)
    parts.load_state_dict(whole.state_dict())
    x = clusters()
    whole(x.requires_grad_())
    for part in x.split(2):
        parts(part)
    whole.move()
    parts.move()
    assert torch.allclose(whole.codes, parts.codes, atol=1e-6)


@pytest.mark.parametrize("name", ["vqvae", "vqkd"])
def test_a_learned_tokenizer_gives_an_id_for_each_unit_at_any_size_and_survives_the_disk(name, tmp_path):
    encoder = small_encoder()
    options = {"out": 24} if name == "vqkd" else {}
    network: Autoencoder = build("tokenizer", name, encoder=encoder, codes=12, dim=8, decoder=DECODER, **options)
    network.eval()
    encoder.eval()
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    rebuilt = network(x)
    assert rebuilt.output.shape == (2, 16, 24 if name == "vqkd" else 192)
    assert torch.equal(rebuilt.quantised.ids, network.ids(x))
    assert network.ids(torch.zeros(1, 3, 40, 16)).shape == (1, 10)
    assert not any(key.startswith("encoder") for key in network.state_dict())  # it belongs to who trains it
    save_tokenizer(network, tmp_path / "tokenizer.safetensors", "mine")
    opened = open_tokenizer(str(tmp_path))
    assert torch.equal(opened.tokenizer.ids(x), network.ids(x))
    assert opened.tokenizer.statistics == encoder.statistics
    assert opened.licence == "mine"


def test_many_vectors_are_quantised_in_parts(monkeypatch):
    book, x = Codebook(8, 4), clusters()
    whole = book.ids(x)
    monkeypatch.setattr("unmask.models.layers.codebook.AT_ONCE", 24)
    assert torch.equal(book.ids(x), whole)


@pytest.mark.parametrize("name", ["vqvae", "vqkd"])
def test_codes_that_are_hardly_in_use_are_a_known_failure(name):
    method = small_method(name)
    (symptom,) = method.symptoms
    healthy = method(views_of(method))[symptom.scalar].item()
    method.tokenizer.codebook.codes[1:] += 1e3  # out of reach
    method.tokenizer.codebook.codes[0] = 0.0
    assert not symptom.shows(healthy)
    ids = method.tokenizer.ids(views_of(method)["views"][0])
    assert len(ids.unique()) == 1
    many = method(views_of(method, count=64))[symptom.scalar].item()
    assert many < 0.1
    assert symptom.shows(1 / 64)


def dalle_state(generator):
    """The state of the published encoder, with its names, of other widths."""
    width, codes, state = 16, 32, {}

    def add(name, out, into, side):
        state[f"blocks.{name}.w"] = torch.randn(out, into, side, side, generator=generator) / (into * side**2) ** 0.5
        state[f"blocks.{name}.b"] = 0.1 * torch.randn(out, generator=generator)

    add("input", width, 3, 7)
    into = width
    for group in range(1, 5):
        out = width * 2 ** (group - 1)
        for block in (1, 2):
            place = f"group_{group}.block_{block}"
            if into != out:
                add(f"{place}.id_path", out, into, 1)
            for number, shape in enumerate(
                [(out // 4, into, 3), *[(out // 4, out // 4, 3)] * 2, (out, out // 4, 1)], 1
            ):
                add(f"{place}.res_path.conv_{number}", *shape)
            into = out
    add("output.conv", codes, into, 1)
    return state


def dalle_ids(state, pixels):
    """The ids, computed from the published names step by step."""
    from torch.nn.functional import conv2d, max_pool2d

    def conv(name, x):
        weight = state[f"blocks.{name}.w"]
        return conv2d(x, weight, state[f"blocks.{name}.b"], padding=weight.shape[-1] // 2)

    x = conv("input", 0.8 * pixels.float() / 255 + 0.1)
    for group in range(1, 5):
        for block in (1, 2):
            place, inner = f"group_{group}.block_{block}", x
            for number in range(1, 5):
                inner = conv(f"{place}.res_path.conv_{number}", inner.relu())
            skip = conv(f"{place}.id_path", x) if f"blocks.{place}.id_path.w" in state else x
            x = skip + inner / 64
        if group < 4:
            x = max_pool2d(x, 2)
    return conv("output.conv", x.relu()).argmax(dim=1).flatten(1)


def test_dalles_encoder_is_read_from_its_state_and_gives_an_id_for_each_8_pixels(tmp_path):
    state = dalle_state(torch.Generator().manual_seed(0))
    torch.save(state, tmp_path / "dalle.pth")
    opened = open_tokenizer(str(tmp_path / "dalle.pth"))
    pixels = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert torch.equal(opened.tokenizer.ids(pixels), dalle_ids(state, pixels))
    assert opened.tokenizer.ids(pixels).shape == (2, 4 * 6)
    assert "MIT" in (opened.licence or "")
    del state["blocks.group_3.block_1.id_path.w"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(UserError, match="only in the model"):
        open_tokenizer(str(tmp_path / "broken.pth"))


def test_dalles_encoder_has_the_published_size():
    with torch.device("meta"):
        network = DallE()
    assert sum(p.numel() for p in network.parameters()) == 53_786_240
    assert network.num_codes == 8192
    assert network.grid.unit == (8, 8)


@pytest.mark.parametrize("wrong", ["nowhere.pth", "folder", "other.pth"])
def test_what_is_no_tokenizer_is_refused(wrong, tmp_path):
    (tmp_path / "folder").mkdir()
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"there is no such|only runs of the methods vqvae|no tokenizer that unmask knows"
    ):
        open_tokenizer(str(tmp_path / wrong))


def test_every_part_of_the_kind_is_a_tokenizer():
    assert names("tokenizer") == ["dalle", "vqkd", "vqvae"]


@pytest.mark.parametrize("options", [{"num": 1}, {"num": 0}, {"dim": 0}, {"decay": 1.0}])
def test_codebooks_that_cannot_be_are_refused(options):
    with pytest.raises(UserError):
        Codebook(**{"num": 4, "dim": 4} | options)
