"""The command line of this process, as records and pages keep it."""

import shlex
import sys
from pathlib import Path


def command_line() -> str:
    """As a person may type it again; `python -m unmask` is `unmask`."""
    program = Path(sys.argv[0]).name
    return shlex.join(["unmask" if program == "__main__.py" else program, *sys.argv[1:]])
