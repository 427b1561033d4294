"""The command `distil`, step by step: name the student, open the teacher, train as `pretrain` does, say what came out.

It is a pretraining whose method is `distil`, on an encoder that is the student: plan, forecast, checkpoints and report
are the same.
"""

import dataclasses
from importlib.metadata import version
from pathlib import Path

from unmask.cli.commands.pretrain import pretraining
from unmask.cli.options.distil import Distil
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.verb import verb
from unmask.errors import Diverged, Interrupted, UserError
from unmask.files import Json, write_json
from unmask.models.any_network import OWN, TIMM, Network, how_to_build, library_of, model_of
from unmask.models.encoders.maps import Maps
from unmask.plain import call_text
from unmask.runs.run import Run
from unmask.runtime.distributed.ranks import Ranks, together
from unmask.runtime.progress import doing, make_console
from unmask.weights.files import ENCODER
from unmask.weights.licence import handed_on, licence_of
from unmask.weights.open import open_weights

__all__ = ["distil"]
STUDENT = "student.json"  # in the student's folder: what its library needs to build it again
OF_THE_METHOD = ("loss", "features", "maps", "strides", "pooling", "model")
ALIKE = {field.name for field in dataclasses.fields(Pretrain)} - {"model", "init", "mean", "std"}


@verb(Distil)
def distil(options: Distil) -> Run | None:
    """Trains the student, or resumes an earlier call with the same options, and returns its run; None for a dry run.

    Raises UserError for a student that cannot be built or gives no feature maps, and for a teacher that cannot be
    opened; Interrupted on a signal (state saved), Diverged when training met non-finite values again and again.
    """
    library_of(options.into)  # refuses names that there are not before weights are read
    wanted = as_pretraining(options)
    out = Path(options.out)
    try:
        with together():
            run = pretraining(wanted, Ranks())
    except (Interrupted, Diverged):
        if (out / ENCODER).exists() and not options.dry_run:
            write_json(out / STUDENT, described(Run(out)))
        raise
    if run is not None:
        write_json(out / STUDENT, described(run))
        make_console().print(f"The student: {out / ENCODER}, and {out / STUDENT} says how to build it", soft_wrap=True)
    return run


def as_pretraining(options: Distil) -> Pretrain:
    """The same as options of `pretrain`."""
    usual = {field.name: field.default for field in dataclasses.fields(Distil)}
    inside = {name: getattr(options, name) for name in OF_THE_METHOD if getattr(options, name) != usual[name]}
    inside |= {"size": options.teacher_size} if options.teacher_size else {}
    size = options.image_size or _size_of_teacher(options)
    given = {name: value for name, value in vars(options).items() if name in ALIKE and name not in ("on", "image_size")}
    method = call_text("distil", {"of": str(options.run), **inside})
    return Pretrain(options.on, model=model_of(options.into), method=method, image_size=size, **given)


def _size_of_teacher(options: Distil) -> tuple[int, ...]:
    """Height and width of the images that the teacher was made for."""
    doing("opening the teacher")
    try:
        size = open_weights(options.run, model=options.model).grid.size
    except UserError as error:
        raise UserError(f"the teacher cannot be opened: {error}") from error
    make_console().print(f"The student sees {size[0]} x {size[1]} pixels, as its teacher does.", highlight=False)
    return size


def described(run: Run) -> Json:
    """What student.json says: the network in its own library's terms, how to prepare images, and the licence."""
    encoder, record = run.encoder(), run.config.record
    arguments = {
        name: value
        for name, value in encoder.arguments.items()
        if name not in ("model_name", "in_chans", "num_classes")
    }
    network = Network(None, TIMM, str(encoder.arguments["model_name"]), arguments)
    network = encoder.network if isinstance(encoder, Maps) else network
    numbers = range(encoder.num_maps) if encoder.staged else None
    mean, std = encoder.statistics
    return {
        "library": network.library,
        "name": network.name,
        "options": dict(network.options),
        "versions": {name: version(name) for name in ("torch", *([] if network.library == OWN else [network.library]))},
        "weights": ENCODER,
        "build": how_to_build(network, encoder.channels),
        "replaced_by_identity": network.removed,
        "input": "(pixels - mean) / std, pixels from 0 to 255, as batch x channels x height x width",
        "channels": encoder.channels,
        "image_size": list(encoder.input_size),
        "mean": mean,
        "std": std,
        "features": encoder.dim,
        "maps": {"channels": encoder.feature_dims(numbers), "strides": encoder.feature_strides(numbers)},
        "teachers": [{"model": teacher["model"], "licence": licence_of(teacher)} for teacher in record.teachers],
        "licence": handed_on(record.licence, record.teachers),
    }
