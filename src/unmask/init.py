"""What `--init` names: no weights, one of our runs, an encoder file, or weights that timm knows."""

from dataclasses import dataclass
from pathlib import Path

from unmask import checkpoint
from unmask.encoder import Encoder, known_name
from unmask.errors import UserError
from unmask.objective import Objective
from unmask.plan import Plan
from unmask.run import CONFIG, Run, pretrained
from unmask.weights import load_strictly, read_state

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
FROM_RUN = ("model", "image_size", "patch_size", "channels", "decoder")


class Start:
    """No weights: everything stays at random. The other kinds subclass this."""

    @property
    def statistics(self) -> Statistics | None:
        """Mean and std that the weights were made with; None: the data's."""
        return None

    def guide(self, plan: Plan) -> None:
        """Lets the weights choose what must fit them."""

    def load(self, objective: Objective) -> None:
        """Puts the weights in, strictly."""


def initial(text: str) -> Start:
    """The start that `--init` asks for. Raises UserError for what is none of the kinds."""
    path = Path(text)
    if text in ("none", ""):
        return Start()
    if (path / CONFIG).exists():
        return FromRun(Run(path))
    if path.is_file():
        return FromFile(path)
    if path.exists() or "/" in text:
        raise UserError(
            f"--init {text}: not a run folder and not a file; give none, RUN, encoder.safetensors or a timm name"
        )
    if not known_name(text):
        raise UserError(f"--init {text}: no run folder, no file and no model of timm has this name")
    return FromTimm(text)


@dataclass
class FromRun(Start):
    run: Run

    @property
    def statistics(self) -> Statistics:
        return tuple(self.run.config["mean"]), tuple(self.run.config["std"])

    def guide(self, plan: Plan) -> None:
        for name in FROM_RUN:
            plan.choose(name, self.run.config["settings"][name], f"as in {self.run.path}")

    def load(self, objective: Objective) -> None:
        """All of the objective, decoder included, from the run's last checkpoint."""
        state = checkpoint.read_last(self.run.path)
        if state is None:
            raise UserError(f"{self.run.path} has no checkpoint yet")
        load_strictly(objective, state["objective"], str(self.run.path))


@dataclass
class FromFile(Start):
    path: Path

    def guide(self, plan: Plan) -> None:
        if not plan.settings["model"]:
            raise UserError(f"--init {self.path} needs --model: the file does not say which timm model it is")

    def load(self, objective: Objective) -> None:
        load_strictly(objective.encoder.net, read_state(self.path), str(self.path))


@dataclass
class FromTimm(Start):
    name: str

    def __post_init__(self):
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = pretrained(self.name)
        return self._encoder

    @property
    def statistics(self) -> Statistics:
        return tuple(self.encoder.mean.tolist()), tuple(self.encoder.std.tolist())

    def guide(self, plan: Plan) -> None:
        plan.choose("model", self.name.split(".")[0], f"of {self.name}")
        plan.choose("image_size", list(self.encoder.grid.size), f"of {self.name}")
        plan.choose("patch_size", self.encoder.grid.unit[0], f"of {self.name}")
        plan.choose("channels", self.encoder.channels, f"of {self.name}")

    def load(self, objective: Objective) -> None:
        load_strictly(objective.encoder.net, self.encoder.net.state_dict(), self.name)
