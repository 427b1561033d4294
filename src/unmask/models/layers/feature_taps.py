"""Feature maps of any network: a dry run finds which modules give maps, hooks collect them from then on.

Of each stride the last map is taken, as of the stages of a pyramid (Lin et al. 2017). Maps may lie as b c h w or, as in
Swin, as b h w c. Networks that work on sequences of tokens give none in this way; those of timm may offer theirs.
"""

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError

TRIAL = (256, 384)  # pixels of the dry run: sides that differ tell b c h w from b h w c
EARLY = 0.25  # share of the layers behind which a map must lie to be one of the network, not of its patch embedding
NEAR = 1.1  # a stride is a power of two if it is within this factor of one
ALIKE = 1.25  # strides along both axes differ at most by this factor, where maps are small and sides were rounded

Maps = list[Float[Tensor, "b _ _ _"]]


@dataclass(frozen=True)
class Tap:
    """Where a map comes from."""

    module: str  # its name in the network; "" for maps that timm offers itself
    call: int  # of that module in a forward pass, since one activation may serve several layers
    entering: bool  # what goes into the module; else what comes out of it
    last: bool  # channels are the last axis
    dim: int  # channels
    stride: int  # pixels between its positions


@dataclass(frozen=True)
class Taps:
    """The maps of a network, those of small strides first, and the size of its features."""

    taps: tuple[Tap, ...]
    dim: int  # of `vector`
    depths: Mapping[str, int]  # of each module with weights: how many of the maps were made before it

    def __call__(self, net: nn.Module, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b d"], Maps]:
        """Features and maps of normalised images, in one pass."""
        if not self.taps[0].module:
            return _offered(net, x, [tap.call for tap in self.taps])
        seen: dict[str, list[Any]] = {tap.module: [] for tap in self.taps}
        passed = {name: net.get_submodule(name) for name in seen}
        with _hooked(passed, lambda name, taken, given: seen[name].append((given, taken))):
            features = vector(net(x))
        maps = [seen[tap.module][tap.call][tap.entering] for tap in self.taps]
        return features, [m.permute(0, 3, 1, 2) if tap.last else m for m, tap in zip(maps, self.taps)]


def vector(output: object) -> Float[Tensor, "b d"]:
    """What a network returns, as one vector for each image: vectors as they are, maps and tokens averaged over their
    places; all of them side by side, if there are several. Raises UserError for anything else."""
    tensors = [tensor for tensor in _tensors(output) if tensor.ndim in (2, 3, 4) and tensor.is_floating_point()]
    vectors = [t if t.ndim == 2 else t.mean(dim=1) if t.ndim == 3 else t.mean(dim=(2, 3)) for t in tensors]
    if not vectors:
        raise UserError(f"a network has to return features or maps of each image; this one returns {_shown(output)}")
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)


def find_taps(net: nn.Module, channels: int, size: Sequence[int], name: str) -> Taps:
    """The maps of a network, found by running a copy of it on images of zeros; on torch's meta device, if it can run
    there. size: of the images that it is for. Its weights and statistics are not changed.

    Raises UserError for a network that cannot take such images, and for one that gives no maps.
    """
    try:
        run = own = _trial(net, channels, size)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # whatever somebody else's network raises
        shown, why = " x ".join(map(str, size)), " ".join(str(error).split())[:200]
        raise UserError(
            f"{name} cannot take images of {channels} channels and {shown} pixels ({type(error).__name__}: {why});"
            " --channels and --image-size say others"
        ) from error
    try:
        run = _trial(net, channels, TRIAL)
    except Exception:  # it is for images of one size alone
        run = own
    taps = run.taps() or _offered_taps(net, channels, size)
    if not taps:
        raise UserError(
            f"{name} gives no feature maps (b c h w, at a stride of 2 or more, behind a quarter of its layers):"
            " it cannot be taught what lies where. Take a convolutional network, or a transformer of timm's"
        )
    return Taps(taps, own.dim, run.depths(taps))


@dataclass(frozen=True)
class _Pass:
    """A call of a module in a dry run."""

    name: str
    call: int  # of this module
    before: tuple[int, ...]  # shape of what it took; empty where that is no tensor of four axes
    after: tuple[int, ...]  # of what it gave
    layers: int  # with weights that had run when it ended
    weighted: bool  # has weights, or a part of it has
    span: tuple[int, int]  # places of its begin and its end in the order of all


@dataclass
class _Run:
    """What came by in a dry run."""

    size: tuple[int, ...]  # of its images
    passes: list[_Pass] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)  # those with weights -> place of their first end
    total: int = 1  # layers with weights that the network has
    dim: int = 0

    def taps(self) -> tuple[Tap, ...]:
        """One map for each stride; none if all of them lie early in the network. It is what goes into the outermost
        module that makes the next stride of it; else, as for the largest, what comes last out of a module with weights.
        """
        shapes = [step.after for step in self.passes]
        likely = Counter(last for shape in shapes for last in (False, True) if self._stride(shape, last))
        order, by_stride, done = sorted((False, True), key=lambda last: -likely[last]), dict[int, Tap](), 0
        best: dict[int, tuple[int, int]] = {}  # stride -> the one after it, and how deep the module lies
        for step in self.passes:
            (stride, last), (after, last_after) = self._read(step.before, order), self._read(step.after, order)
            rank = after, step.name.count(".")
            if 0 < stride < after and (stride not in best or rank < best[stride]):
                by_stride[stride] = Tap(step.name, step.call, True, last, _dim(step.before, last), stride)
                best[stride] = rank
            if after and step.weighted:
                done = max(done, step.layers)
                if after not in best:
                    by_stride[after] = Tap(step.name, step.call, False, last_after, _dim(step.after, last_after), after)
        return tuple(by_stride[stride] for stride in sorted(by_stride)) if done >= EARLY * self.total else ()

    def depths(self, taps: Sequence[Tap]) -> dict[str, int]:
        """For each layer with weights, how many of the maps were made before it."""
        spans = {(step.name, step.call): step.span for step in self.passes}
        made = [spans[tap.module, tap.call][0 if tap.entering else 1] for tap in taps if tap.module]
        return {name: sum(place < end for place in made) for name, end in self.layers.items()}

    def _read(self, shape: tuple[int, ...], order: Sequence[bool]) -> tuple[int, bool]:
        """Stride of a map, 0 for what is none, and whether channels are its last axis."""
        last = next((last for last in order if self._stride(shape, last)), False)
        return self._stride(shape, last), last

    def _stride(self, shape: tuple[int, ...], last: bool) -> int:
        """Of a map; 0 for what is none: at full resolution, of a single place, or in another proportion."""
        height, width = (shape[1:3] if last else shape[2:4]) if len(shape) == 4 else (1, 1)
        if height * width < 2:
            return 0
        down, across = self.size[0] / height, self.size[1] / width
        if min(down, across) < 1.5 or max(down, across) > ALIKE * min(down, across):
            return 0
        exact = min(down, across)
        power = 2 ** round(math.log2(exact))
        return power if 1 / NEAR < exact / power < NEAR else round(exact)


def _dim(shape: tuple[int, ...], last: bool) -> int:
    return shape[3 if last else 1]


def _trial(net: nn.Module, channels: int, size: Sequence[int]) -> _Run:
    """A pass of a copy, on torch's meta device if the network can; raises what the network raises."""
    try:
        return _watched(copy.deepcopy(net).to("meta"), torch.zeros(2, channels, *size, device="meta"))
    except Exception:  # it makes or looks at values
        if any(parameter.is_meta for parameter in net.parameters()):
            raise
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return _watched(copy.deepcopy(net).cpu(), torch.zeros(2, channels, *size))


@torch.no_grad()
def _watched(net: nn.Module, blank: Tensor) -> _Run:
    parts = {name: part for name, part in net.named_modules() if name}
    owners = {name for name, part in parts.items() if next(part.parameters(recurse=False), None) is not None}
    weighted = {name for name, part in parts.items() if next(part.parameters(), None) is not None}
    run, calls, begins = _Run(tuple(blank.shape[2:]), total=len(owners)), Counter[str](), dict[str, int]()
    clock = itertools.count()

    def note(name: str, taken: object, given: object) -> None:
        end = next(clock)
        if name in owners:
            run.layers.setdefault(name, end)
        if shape := _shape(given):
            span, facts = (begins[name], end), (len(run.layers), name in weighted)
            run.passes.append(_Pass(name, calls[name], _shape(taken), shape, *facts, span))
        calls[name] += 1

    def begin(name: str) -> None:
        begins[name] = next(clock)

    trained = vector(net.train()(blank)).shape[1]
    with _hooked(parts, note, begin):
        run.dim = vector(net.eval()(blank)).shape[1]
    if run.dim != trained:
        raise UserError(
            f"it gives {trained} numbers in training and {run.dim} afterwards; has it auxiliary outputs to switch off,"
            " as with aux_logits=False?"
        )
    return run


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) and value.ndim == 4 else ()


@contextmanager
def _hooked(
    modules: Mapping[str, nn.Module],
    note: Callable[[str, object, object], None],
    begin: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Calls note(name, first input, output) whenever one of the modules has run, begin(name) before."""

    def after(name: str) -> Any:
        return lambda module, inputs, output: note(name, inputs[0] if inputs else None, output)

    def before(name: str, called: Callable[[str], None]) -> Any:
        return lambda module, inputs: called(name)

    handles = [module.register_forward_hook(after(name)) for name, module in modules.items()]
    handles += [module.register_forward_pre_hook(before(n, begin)) for n, module in modules.items() if begin]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _offered(net: Any, x: Tensor, blocks: list[int]) -> tuple[Tensor, Maps]:
    """Features, and the maps that timm's transformers make of their tokens."""
    final, maps = net.forward_intermediates(x, indices=blocks, output_fmt="NCHW")
    return vector(net.forward_head(final, pre_logits=True)), list(maps)


def _offered_taps(net: nn.Module, channels: int, size: Sequence[int]) -> tuple[Tap, ...]:
    """The last of these maps at each stride; none where the network offers no maps."""
    twin: Any = copy.deepcopy(net).eval()
    if not hasattr(twin, "forward_intermediates"):
        return ()
    device = next(twin.parameters()).device
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        maps = twin.forward_intermediates(torch.zeros(1, channels, *size, device=device), output_fmt="NCHW")[1]
    strides = [round(size[0] / m.shape[2]) for m in maps]
    by_stride = {stride: Tap("", n, False, False, maps[n].shape[1], stride) for n, stride in enumerate(strides)}
    return tuple(by_stride[stride] for stride in sorted(by_stride))


def _tensors(output: object) -> Iterator[Tensor]:
    """All tensors of an output, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value)


def _shown(output: object) -> str:
    return f"a tensor of {output.ndim} axes" if isinstance(output, Tensor) else type(output).__name__
