"""Every question of the template, answered otherwise than by default."""

from dataclasses import dataclass

import yaml

from tests.answers import EVERYTHING, Answers
from tests.projects import REPOSITORY


@dataclass(frozen=True)
class Flip:
    """One question and an answer that is not its default."""

    question: str
    answer: str

    @property
    def answers(self) -> Answers:
        """The answers to copy or to update with."""
        return {self.question: self.answer}

    def __str__(self) -> str:
        """Return what names the test."""
        return f"{self.question}={self.answer}" if len(self.answer) < 12 else self.question


def _flips() -> list[Flip]:
    document = yaml.safe_load((REPOSITORY / "copier.yml").read_text("utf-8"))
    flips = []
    for name, question in document.items():
        if name.startswith("_") or question.get("when") is False:
            continue
        choices = question.get("choices", [EVERYTHING.get(name)])
        for choice in choices.values() if isinstance(choices, dict) else choices:
            assert choice is not None, f"tests/answers.py: EVERYTHING has no answer to {name}"
            if choice != question["default"]:
                flips.append(Flip(name, choice))
    return flips


FLIPS = _flips()


def _sets() -> list[Answers]:
    """Put the flips together, every question in every set, so that few sets have them all."""
    answers: dict[str, list[str]] = {}
    for flip in FLIPS:
        answers.setdefault(flip.question, []).append(flip.answer)
    return [
        {question: given[number % len(given)] for question, given in answers.items()}
        for number in range(max(map(len, answers.values())))
    ]


SETS = _sets()
