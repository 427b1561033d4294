"""How idle threads wait for work: a setting that the OpenMP library reads once, when torch is loaded.

Spinning threads resume sooner, but on a busy machine they take the core from the very thread that the others wait for,
and a step becomes many times slower. So they sleep at once on a busy machine, and spin only briefly on an idle one, in
case it becomes busy later. benchmarks/waiting.py measures this.

`import unmask` sets it, so that functions called from Python are as fast as commands.
"""

import os
import sys

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
BUSY = 0.5  # processes per core that want to run, averaged over a minute
TOO_LATE = "OpenMP's default: torch was imported before unmask"
BRIEFLY = "1000"  # turns of GNU OpenMP's waiting loop: some microseconds; its own default takes milliseconds


def settle_waiting() -> None:
    """Has an effect only before torch is imported. Variables set by the user are not changed."""
    if "torch" in sys.modules or any(name in os.environ for name in VARIABLES):
        return
    if busy():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        os.environ["GOMP_SPINCOUNT"] = BRIEFLY


def busy() -> bool:
    """True if other programs are using the cores; False if unknown."""
    try:
        return os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows
        return False


def waiting() -> str:
    """The setting in words, for the plan."""
    variables = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return f"idle threads wait by {' '.join(variables) or TOO_LATE}"
