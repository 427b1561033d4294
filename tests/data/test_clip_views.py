"""Several clips of a video: at even steps in tests, and several views of one that is decoded once in training."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from support.segmenting import small_encoder

from unmask.data.codecs.video import Clip
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.modalities.video import Moving
from unmask.data.modality import make_modality
from unmask.data.source import Item, Source
from unmask.errors import UserError
from unmask.evaluation.features import pooled
from unmask.methods.mae import MAE
from unmask.models.classifier import Classifier
from unmask.models.encoder import create_encoder

CALLS = []  # the frames that were asked for, call by call


@dataclass(frozen=True)
class Numbered(Clip):
    """A video of which each frame shows its number."""

    def _pictures(self, indices, max_side):
        CALLS.append(list(indices))
        for index in indices:
            yield torch.full((1, 8, 8), index, dtype=torch.uint8)


def video(num_frames):
    CALLS.clear()
    return Moving(Numbered("array", (num_frames, 8, 8), 1, 8, 10.0, None), 1, None)


def facts(*median):
    return SimpleNamespace(count=1, min_size=median, median_size=median, max_size=median, share_extreme=0.0)


SIZE = (4, 8, 8)
VIDEO = make_modality("video(frames=4, step=2)")


def numbers(clip):
    return clip[0, :, 0, 0].tolist()


def test_clips_are_at_even_steps_from_the_first_frame_to_the_last_and_decoded_at_once():
    clips = VIDEO.views_at_test(SIZE, 3)(video(20))
    assert clips.shape == (3, 1, *SIZE)
    assert [numbers(clip) for clip in clips] == [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]
    assert len(CALLS) == 1
    assert [numbers(clip) for clip in VIDEO.views_at_test(SIZE, 2)(video(3))] == [[0, 1, 2, 2]] * 2
    assert numbers(VIDEO.views_at_test(SIZE, 1)(video(7))[0]) == [0, 2, 4, 6] == numbers(VIDEO.whole(SIZE)(video(7)))


@pytest.mark.parametrize(("median", "count"), [(4, 1), (7, 1), (14, 2), (22, 3), (300, 5)])
def test_by_default_clips_cover_the_median_video_and_are_five_at_most(median, count):
    choice = VIDEO.num_views(facts(median, 8, 8), SIZE)
    assert choice.value == count
    assert f"a video of {median} frames" in choice.reason


def test_what_is_no_video_has_one_view():
    image = make_modality("image")
    assert image.num_views(facts(8, 8), (8, 8)) is None
    with pytest.raises(UserError, match="--clips is for videos"):
        image.views_at_test((8, 8), 3)


def clip_encoder(**options):
    torch.manual_seed(0)
    text = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)"
    shape = {"image_size": SIZE, "patch_size": (2, 4, 4), "channels": 1, "modality": VIDEO.text}
    return create_encoder(text, **shape, mean=(100.0,), std=(60.0,), **options).eval()


def test_logits_and_features_of_several_clips_are_averaged():
    classifier = Classifier(clip_encoder(), ["a", "b", "c"]).eval()
    torch.nn.init.normal_(classifier.head.weight)
    clips = torch.randint(0, 255, (2, 3, 1, *SIZE)).to(torch.uint8)
    with torch.no_grad():
        single = torch.stack([classifier(clips[:, n]) for n in range(3)]).mean(dim=0)
        torch.testing.assert_close(classifier.probabilities(clips), single.softmax(dim=1))
        torch.testing.assert_close(classifier.probabilities(clips[:, :1]), classifier.probabilities(clips[:, 0]))
        vectors = pooled(clip_encoder(), clips, ["mean"])["mean"]
        each = [pooled(clip_encoder(), clips[:, n], ["mean"])["mean"] for n in range(3)]
    torch.testing.assert_close(vectors, torch.stack(each).mean(dim=0))


class Videos(Source):
    @classmethod
    def accepts(cls, path):
        return False

    def __init__(self, videos):
        super().__init__("videos", VIDEO.text)
        self.videos, self.items = videos, [Item(str(n)) for n in range(len(videos))]

    def read(self, index):
        raise AssertionError("they are in memory")


def test_several_views_of_a_video_are_made_of_one_stretch_that_is_decoded_once():
    videos = [video(200), video(5)]
    source = Videos(videos)
    samples = Samples(source, [0, 1], channels=1, cache=dict(enumerate(videos)))
    loader = Loader(samples=samples, view=VIDEO.window("random", SIZE, 0.5, False, "exact"), batch=8, crops=4, seed=1)
    batch = next(loader(0))
    clips, index = batch["views"][0], batch["index"]
    assert sorted(map(len, CALLS)) == [5, 16]
    stretch = max(CALLS, key=len)
    assert stretch == list(range(stretch[0], stretch[0] + 16))  # twice what a view spans
    shown = [numbers(clip) for clip in clips[index == 0]]
    assert len(shown) == 4
    assert len({tuple(frames) for frames in shown}) > 1
    assert all(set(frames) <= set(stretch) and frames[1] - frames[0] == 2 for frames in shown)
    assert torch.equal(next(loader(0))["views"][0], clips)


def test_only_the_first_frame_of_a_tubelet_is_predicted_and_drawn_for_both():
    parts = {"mask": "tube(ratio=0.5)", "decoder": "full(dim=16, depth=1, heads=2)"}
    mae = MAE(clip_encoder(), target="pixels(first_frame=True)", **parts)
    x = torch.randint(0, 255, (2, 1, *SIZE)).float()
    whole = MAE(clip_encoder(), target="pixels", **parts)
    assert (mae.target.dim, whole.target.dim) == (16, 32)
    still = x.clone()
    still[:, :, 1::2] = 7.0  # the second frame of each tubelet means nothing
    wanted = mae.target(mae.encoder.normalize(x))
    torch.testing.assert_close(mae.target(mae.encoder.normalize(still)), wanted)
    first = mae.encoder.normalize(x)[:, :, ::2]
    cells = first.reshape(2, 2, 2, 4, 2, 4).permute(0, 1, 2, 4, 3, 5).reshape(2, 8, 16)
    cells = (cells - cells.mean(-1, keepdim=True)) / (cells.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(wanted, cells)
    mask = mae.draw({"views": [x]})
    drawn = mae.target.to_pixels(mae.predict(x, mask), mae.encoder.normalize(x), mask)
    assert torch.equal(drawn[..., :16], drawn[..., 16:])
    with pytest.raises(UserError, match="is for tubelets of clips"):
        MAE(small_encoder(), target="pixels(first_frame=True)")
