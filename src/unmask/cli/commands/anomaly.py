"""MISSING DOCSTRING src/unmask/cli/commands/anomaly.py"""

from typing import TYPE_CHECKING

from unmask.cli.options.anomaly import Anomaly
from unmask.cli.verb import verb

__all__ = ["anomaly"]
if TYPE_CHECKING:
    from unmask.tasks.anomaly.model import Finder
    from unmask.tasks.anomaly.results import Spotted


@verb(Anomaly)
def anomaly(options: Anomaly) -> "Finder | Spotted":
    """`anomaly("fit", run, normals, out=...)` returns the finder, `anomaly("apply", folder, images, out=...)` what it
    found. `unmask.load(folder)` opens the finder again; its `.predict(images)` gives scores and maps.

    Raises UserError for options that cannot work, DataError for images that cannot be read and for too few normal
    ones to promise what is asked.
    """
    if options.action == "fit":
        from unmask.tasks.anomaly.fit import fitting

        return fitting(options)
    from unmask.tasks.anomaly.apply import spotting

    return spotting(options)
