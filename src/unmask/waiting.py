"""How idle threads wait for work: a setting of the OpenMP library, which reads it once, when torch is loaded."""

import os

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def settle_waiting() -> None:
    """To be called before torch is imported. What the user has set stays."""
    if not any(name in os.environ for name in VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def waiting() -> str:
    """In words, for the plan."""
    found = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return f"idle threads wait by {' '.join(found)}" if found else "idle threads wait as OpenMP's default is"
