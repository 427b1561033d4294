"""The version of the package, and how packages are added to the Python that runs it."""

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unmask.errors import UserError

__version__ = "0.1.0"


def install_line(*packages: str) -> str:
    """The command that installs packages where this process looks for them: by pip, or by uv where there is no pip."""
    names, python = shlex.join(packages), sys.executable
    on_path = shutil.which("python")
    if on_path is not None and Path(on_path).absolute() == Path(python).absolute():
        python = "python"
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip install {names}"
    beside = Path(sys.executable).with_name("uv")
    if uv := shutil.which("uv") or (str(beside) if beside.exists() else None):
        return f"{uv if uv == str(beside) else 'uv'} pip install --python {shlex.quote(sys.executable)} {names}"
    return f"{python} -m ensurepip && {python} -m pip install {names}"


@contextmanager
def optional_library(what: str, library: str, extra: str) -> Iterator[None]:
    """Around the import of a library that only an extra of the package brings. Raises UserError where it is missing:
    `volumes are read by nibabel, which is not installed: python -m pip install 'unmask[medical]'`."""
    try:
        yield
    except ImportError as error:
        line = install_line(f"unmask[{extra}]")
        raise UserError(f"{what} are read by {library}, which is not installed: {line}") from error
