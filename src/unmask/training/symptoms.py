"""Looks for the failures that a method is known for while it trains."""

from collections.abc import Iterator, Mapping, Sequence

from unmask.training.objective import Symptom

EARLY, IN_A_ROW = 0.2, 3  # share of a run before which, and records for which, a symptom says nothing


class Watchful:
    """Tells of each symptom once, when it has shown for some records in a row."""

    def __init__(self, symptoms: Sequence[Symptom]):
        self.counts = dict.fromkeys(symptoms, 0)

    def at(self, step: int, steps: int, means: Mapping[str, float]) -> Iterator[tuple[Symptom, str]]:
        """Symptoms that are to be told of now, each with a sentence. means: of a record."""
        for symptom, count in list(self.counts.items()):
            shows = symptom.scalar in means and symptom.shows(means[symptom.scalar]) and step >= EARLY * steps
            self.counts[symptom] = count + 1 if shows else 0
            if self.counts[symptom] == IN_A_ROW:
                del self.counts[symptom]
                value = means[symptom.scalar]
                yield (
                    symptom,
                    f"step {step}: {symptom.says} ({symptom.scalar} {value:.3g}). What may help: {symptom.remedy}",
                )
