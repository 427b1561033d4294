"""The data sheet: facts about the data, from reading and decoding every image once before training."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

from unmask.data.captions.table import captions_in, captions_in_words, count_captions
from unmask.data.labels import natural
from unmask.data.modality import IMAGE
from unmask.data.moments import remarks_on_constant
from unmask.data.scan import Bad, Looked, Room, digest_only, look, reject_unlike, usual_range
from unmask.data.source import Source
from unmask.data.value_range import UsualRange
from unmask.errors import DataError, many
from unmask.runtime.cores import in_order

CHUNK = 64  # images per piece of work; part of the order in which sums are added, so not to be tuned per machine
FAR = 5.0  # ratio of mean or std above which two data sets are not in the same units
Statistics = tuple[Sequence[float], Sequence[float]]  # mean, std per channel
NUM_GROUPS, GROUP_NAMES = 100, 20  # of duplicates, in the sheet


@dataclass(frozen=True)
class Sheet:
    """Plain values only: `dataclasses.asdict` makes JSON. Counts are of images unless they say otherwise."""

    where: str
    count: int  # images that were to be looked at
    checked: int  # of these, read and decoded: fewer than `count` above the limit
    ignored: int  # files that are no images
    bad: list[Bad]  # what cannot be used, and why
    formats: dict[str, int]  # "JPEG", "PNG", ...
    channel_counts: dict[str, int]  # "1", "3", ...
    bits: dict[str, int]  # per value as stored
    notes: dict[str, int]  # what was done to images, e.g. "alpha composited on white"
    min_size: tuple[int, ...]  # of originals along their axes, of images height and width in pixels; each on its own
    median_size: tuple[int, ...]
    max_size: tuple[int, ...]
    common_sizes: dict[str, int]  # "224 x 224", the five most frequent
    splits: dict[str, int]  # of the whole source: "train", "val", "test", "none"; empty where there are none
    classes: dict[str, int]  # of the images looked at
    num_duplicates: int  # exact copies beyond the first, by content
    duplicates: list[list[str]]  # names, up to 100 groups
    test_in_train: int  # val and test images that are exact copies of one looked at in train
    mean: dict[str, list[float]]  # number of channels -> per channel, raw units (0..255 up to 16 bits)
    std: dict[str, list[float]]
    value_range: tuple[float, float]  # smallest and largest value, raw units
    share_extreme: float  # of values within 10 % of either end of the range: near 1 in digits, text and scans
    share_bright: float  # of values in the upper half of the range
    magnitude: int | None  # power of ten below the largest value of most images; None for those brought to 0..255
    fingerprint: str  # of names and contents
    modality: str = IMAGE  # what the samples are
    word: str = "image"  # what one is called
    axes: tuple[str, ...] = ("height", "width")  # of the sizes
    colour: bool = True  # grey and RGB samples go together
    captions: dict[str, int] = field(default_factory=dict)  # see `count_captions`; empty where there are none
    remarks: list[str] = field(default_factory=list)
    lost: list[Bad] = field(default_factory=list)  # parts that cannot be used, of samples whose other parts can

    @property
    def num_good(self) -> int:
        return self.checked - len(self.bad)

    @property
    def channels(self) -> int:
        """1 if all are grey, 3 if some are RGB, else the one number there is. DataError if there is no such number."""
        numbers = {int(channels) for channels in self.channel_counts}
        if not numbers:
            raise DataError(f"no {self.word} of {self.where} can be used")
        if numbers <= {1, 3} and self.colour:
            return max(numbers)
        if len(numbers) > 1:
            counts = ", ".join(f"{count:,} with {number}" for number, count in self.channel_counts.items())
            raise DataError(
                f"the {self.word}s of {self.where} do not share a number of channels: {counts}; use one kind"
            )
        return numbers.pop()

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel in raw units, for images brought to `channels`."""
        if str(channels) not in self.mean:
            raise DataError(
                f"the {self.word}s have {' or '.join(self.mean) or 'no'} channels and cannot be given {channels}"
            )
        return tuple(self.mean[str(channels)]), tuple(self.std[str(channels)])

    @property
    def usual_range(self) -> UsualRange:
        """What further images of this data have to share."""
        return UsualRange(self.magnitude, self.value_range)

    def unlike(self, mean: Sequence[float], std: Sequence[float]) -> list[str]:
        """A remark where the images' values are far from those that an encoder normalises by; raw units, one number per
        channel. DataError for images that cannot be brought to these channels."""
        own_mean, own_std = self.statistics(len(mean))
        far = far_channels((own_mean, own_std), (mean, std))
        if not far:
            return []
        i = far[0]
        return [
            f"values are not in the encoder's range: channel {i + 1} of {self.where} has mean {own_mean[i]:.4g}, std"
            f" {own_std[i]:.4g}, and the encoder normalises by {mean[i]:.4g} and {std[i]:.4g}. Scale them as those"
            " it was trained on, or give --mean and --std"
        ]

    def text(self) -> str:
        """The sheet as text of at most 12 lines."""
        checked = "" if self.checked == self.count else f" (checked {self.checked:,} of {self.count:,})"
        low, mid, high = (" x ".join(map(str, size)) for size in (self.min_size, self.median_size, self.max_size))
        sizes = f"all {mid}" if low == high else f"{low} to {high}, median {mid}"
        files = f"{len(self.bad):,} bad; {many(self.ignored, 'other file')}"
        files += f"; {many(len(self.lost), 'part')} of samples cannot be used" if self.lost else ""
        lines = [
            f"{many(self.count, self.word)} in {self.where}{checked}; {files}",
            f"formats   {_listed(self.formats)}; bits {_listed(self.bits)}; channels {_listed(self.channel_counts)}",
            f"sizes     {sizes} ({' x '.join(self.axes)})",
            f"values    {self.value_range[0]:g} to {self.value_range[1]:g}, {self.share_extreme:.0%} near either end",
        ]
        lines += [f"splits    {_listed(self.splits)}"] if self.splits else []
        lines += [f"classes   {len(self.classes):,}: {_listed(self.classes)}"] if self.classes else []
        if self.captions:
            lines.append(f"captions  {captions_in_words(self.captions, self.checked, self.word)}")
        lines += [f"notes     {_listed(self.notes)}"] if self.notes else []
        if self.num_duplicates or self.test_in_train:
            leak = f"; {self.test_in_train:,} val or test {self.word}s are also in train" if self.test_in_train else ""
            lines.append(f"copies    {self.num_duplicates:,} exact{leak}")
        if self.bad:
            lines.append(f"bad       {_listed(_most_first(Counter(reason for _, _, reason in self.bad)))}")
        room = 12 - len(lines)
        remarks = self.remarks if len(self.remarks) <= room else [*self.remarks[: room - 1], "and more"]
        return "\n".join(lines + [f"remark    {remark}" for remark in remarks])


def far_channels(data: Statistics, reference: Statistics) -> list[int]:
    """The channels in which mean or std of data are so far from another that they can hardly be in the same units."""
    return [
        i for i, (m, s, own_mean, own_std) in enumerate(zip(*reference, *data))
        if abs(m - own_mean) > FAR * s or (own_std > 0 and not 1 / FAR < own_std / s < FAR)
    ]  # fmt: skip


def inspect(
    source: Source,
    *,
    indices: Sequence[int] | None = None,  # the images to look at; None: all
    max_side: int | None,  # pixels, as for `decode`
    limit: int = 100_000,  # above it, a sample of this many, always the same
    keep_bytes: int = 0,  # decoded images are handed back if together they take no more
    threads: int | None = None,  # None: one per core, at most 8
    progress: Callable[[int, int], None] | None = None,  # told done and total, from the caller's thread
) -> tuple[Sheet, dict[int, Any]]:
    """Reads and decodes the samples; the same result for any number of threads.

    Returns the sheet, and the decoded images by index in the source, all of the good ones or none. Where `indices`
    leave out images of a val or test split, those are read too, to find copies of training images, not decoded.
    """
    wanted = list(range(len(source.items))) if indices is None else list(indices)
    chosen = wanted if len(wanted) <= limit else sorted(random.Random(0).sample(wanted, limit))
    room = Room(keep_bytes if len(chosen) == len(wanted) else 0)
    held_out = _held_out(source, wanted)[:limit]
    tasks = [partial(look, source, part, max_side, room) for part in _chunks(chosen)]
    tasks += [partial(digest_only, source, part) for part in _chunks(held_out)]
    looked, done, total = Looked(), 0, len(chosen) + len(held_out)
    for part in in_order(lambda task: task(), tasks, threads):
        looked.merge(part, room)
        done = min(done + CHUNK, total)
        if progress is not None:
            progress(done, total)
    reject_unlike(looked, source)
    return _sheet(source, wanted, chosen, looked), looked.pixels


def check_bad(sheet: Sheet, max_bad: float = 0.05, *, fixed: bool = False) -> None:
    """Raises DataError if no sample is good, or more than the share `max_bad` is not; says why, names some, and what to
    do. fixed: no option changes the share."""
    if sheet.num_good > 0 and len(sheet.bad) <= max_bad * sheet.checked:
        return
    reasons = Counter(reason for _, _, reason in sheet.bad)
    lines = []
    for reason, count in reasons.most_common(3):
        names = [name for _, name, why in sheet.bad if why == reason]
        lines.append(f"  {count:,} {reason}, e.g. {', '.join(names[:2])}")
    left = sum(reasons.values()) - sum(count for _, count in reasons.most_common(3))
    raise DataError(
        f"{len(sheet.bad):,} of {sheet.checked:,} {sheet.word}s in {sheet.where} cannot be used"
        + (f" (more than {max_bad:.0%}):\n" if sheet.num_good else ", so there is nothing to use:\n")
        + "\n".join(lines)
        + (f"\n  {left:,} for other reasons" if left else "")
        + ("" if not sheet.num_good else f"\nMend or remove them{'' if fixed else ', or allow more with --max-bad'}")
    )


def write_bad_files(path: str | Path, bad: Sequence[Bad]) -> None:
    """Name, tab, reason: a line each, below a line with their number. What was found later, as `Samples` adds it, stays
    at the end when a run goes on."""
    path, bad_names = Path(path), {name for _, name, _ in bad}
    old_lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    later = [line for line in old_lines if not line.startswith("#") and line.split("\t", 1)[0] not in bad_names]
    lines = [f"# {len(bad)} bad when the data was checked, as name, tab, reason; found later ones come at the end"]
    lines += [f"{name}\t{' '.join(reason.split())}" for _, name, reason in bad]
    path.write_text("\n".join(lines + later) + "\n", encoding="utf-8")


def _sheet(source: Source, wanted: list[int], chosen: list[int], looked: Looked) -> Sheet:
    good = set(looked.channels)
    groups: dict[bytes, list[int]] = {}
    for index in sorted(good):
        groups.setdefault(looked.digests[index], []).append(index)
    copies = [group for group in groups.values() if len(group) > 1]
    modality = source.modality
    sides = [sorted(along) for along in zip(*looked.sizes)] or [[0]] * len(modality.axes)
    statistics = looked.statistics
    moments = statistics.moments
    number = max(moments, key=lambda n: (moments[n].num_pixels, n), default=1)
    extreme, bright = statistics.shares(number) if moments else (0.0, 0.0)
    means = {str(n): modality.normalisation(*m.mean_std()) for n, m in sorted(moments.items())}
    classes = Counter(name for i in wanted for name in source.classes(i) or ())
    splits = Counter(item.split or "none" for item in source.items)
    sizes = Counter(" x ".join(map(str, size)) for size in looked.sizes)
    return Sheet(
        where=source.where,
        count=len(wanted),
        checked=len(chosen),
        ignored=source.ignored,
        bad=sorted(looked.bad),
        lost=sorted(looked.lost),
        formats=_most_first(looked.formats),
        channel_counts={str(n): c for n, c in sorted(Counter(looked.channels.values()).items())},
        bits={str(n): c for n, c in sorted(looked.bits.items())},
        notes=_most_first(looked.notes),
        min_size=tuple(along[0] for along in sides),
        median_size=tuple(median_low(along) for along in sides),
        max_size=tuple(along[-1] for along in sides),
        common_sizes=dict(list(_most_first(sizes).items())[:5]),
        splits=_most_first(splits) if set(splits) != {"none"} else {},
        classes={label: classes[label] for label in sorted(classes, key=natural)},
        num_duplicates=sum(len(group) - 1 for group in copies),
        duplicates=[[source.items[i].name for i in group[:GROUP_NAMES]] for group in copies[:NUM_GROUPS]],
        test_in_train=_num_leaked(source, groups, looked.digests),
        mean={n: mean.tolist() for n, (mean, _) in means.items()},
        std={n: std.tolist() for n, (_, std) in means.items()},
        value_range=moments[number].value_range() if moments else (0.0, 0.0),
        share_extreme=round(extreme, 6),
        share_bright=round(bright, 6),
        magnitude=usual_range(looked).magnitude,
        fingerprint=_fingerprint(source, wanted, looked.digests),
        modality=modality.text,
        word=modality.word,
        axes=modality.sizes,
        colour=modality.colour,
        captions=count_captions([source.items[i] for i in wanted]),
        remarks=[*remarks_on_constant(moments[number] if moments else None), *source.remarks],
    )


def _num_leaked(source: Source, groups: dict[bytes, list[int]], digests: dict[int, bytes]) -> int:
    train = {digest for digest, group in groups.items() if any(source.items[i].split == "train" for i in group)}
    return sum(digest in train for i, digest in digests.items() if source.items[i].split in ("val", "test"))


def _fingerprint(source: Source, wanted: list[int], digests: dict[int, bytes]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for index in wanted:
        total.update(source.items[index].name.encode() + b"\0" + digests.get(index, b"") + b"\n")
        total.update("\n".join(captions_in(source.items[index].columns)).encode(errors="surrogateescape"))
    return total.hexdigest()


def _held_out(source: Source, wanted: list[int]) -> list[int]:
    """Images of val and test that are not looked at, if some of train are."""
    seen = set(wanted)
    if not any(source.items[i].split == "train" for i in wanted):
        return []
    return [i for i, item in enumerate(source.items) if item.split in ("val", "test") and i not in seen]


def _chunks(indices: list[int]) -> list[list[int]]:
    return [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _listed(counts: Mapping[str, int]) -> str:
    """The five largest counts in one line."""
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:5])
    return shown + (f", and {len(counts) - 5:,} more" if len(counts) > 5 else "")
