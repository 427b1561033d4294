"""Seeds that depend on several numbers, so that chance is a pure function of where it is used."""


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers; near inputs give unrelated seeds (splitmix64's finaliser)."""
    state = 0
    for number in numbers:
        state = (state ^ number) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
