"""The type checker of the test run: beartype, taking an int where a float is asked for, as PEP 484 has it.

beartype writes code for each function that it decorates, which takes seconds for all of the package and is for nothing
where a function is never called: it is done when the first call comes.
"""

import functools

from beartype import BeartypeConf, beartype

decorate = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    decorated = None

    @functools.wraps(function)
    def checking(*args, **kwargs):
        nonlocal decorated
        if decorated is None:
            decorated = decorate(function)
        return decorated(*args, **kwargs)

    return checking
