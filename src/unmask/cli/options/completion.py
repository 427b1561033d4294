"""`unmask completion bash|zsh|fish`: the script that makes a shell complete commands and options."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import OneOf

__all__ = ["Completion"]

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Completion(ConfigOption):
    """Print a script that lets a shell complete commands and options.

    bash: echo 'eval "$(unmask completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(unmask completion zsh)"' >> ~/.zshrc
    fish: unmask completion fish > ~/.config/fish/completions/unmask.fish
    """

    shell: Positional[Annotated[str, OneOf(SHELLS)]] = ""  # bash, zsh or fish

    def __post_init__(self):
        if not self.shell:
            raise UserError(f"name the shell: unmask completion {'|'.join(SHELLS)}")
        if self.shell not in SHELLS:
            raise UserError(
                f"no completion for {self.shell!r}{closest(self.shell, SHELLS)} There are: {', '.join(SHELLS)}"
            )
