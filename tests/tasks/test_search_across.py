"""Search across kinds of data: a query whose own kind is searched among is said not to be looked at itself."""

from types import SimpleNamespace

from support.tones import hues_with_tones

from unmask.methods.align import Align
from unmask.tasks.retrieval.across import Across

MODALITY = "multimodal(rgb=image, sound=audio, size=32, patch=8)"


def test_a_query_that_is_not_looked_at_itself_is_named_with_what_to_do(tmp_path):
    pairs = hues_with_tones(tmp_path / "pairs", {"train": 4})
    parts = tuple(SimpleNamespace(name=name) for name in ("rgb", "sound"))
    objective = object.__new__(Align)  # without its networks
    vars(objective).update(encoder=SimpleNamespace(modality=MODALITY), parts=parts)
    across = Across(objective, searched=["sound"], shown=["rgb"])
    image, tone = str(pairs / "rgb/train/001.png"), str(pairs / "sound/train/001.wav")
    assert across.unseen([image]) == []
    (line,) = across.unseen([image, tone])
    assert tone in line
    assert image not in line
    assert line.endswith(
        "sound is searched among, so rgb of the same sample is what is searched by; by the sound itself: --among rgb"
    )
