"""Made-up texts, and people who like answers that end with a question: what judges are tried on."""

import asyncio
from dataclasses import dataclass

from training.judge_fit import JudgeRules, Vote

WORDS = [
    "the",
    "river",
    "boat",
    "model",
    "turns",
    "slowly",
    "under",
    "water",
    "people",
    "think",
    "maybe",
    "you",
    "we",
    "I",
    "light",
    "stone",
    "because",
    "tide",
    "12",
    "Good",
]
QUICK = JudgeRules(permutations=199, resamples=200)


@dataclass(frozen=True)
class Answer:
    text: str
    score: float | None = None


def make_text(rng, ends):
    sentences = [
        " ".join(rng.choice(WORDS, rng.integers(4, 12))) + str(rng.choice([".", ".", "!", "?"]))
        for _ in range(rng.integers(1, 5))
    ]
    if rng.random() < 0.2:
        sentences.append("\n- one thing\n- another\n\n")
    return " ".join(sentences) + " And so it is" + ends


def make_votes(rng, count, noise=0.05, pair_share=0.0, raters=24):
    """People who like answers that end with a question; a noise of 0.5 is no preference at all."""
    votes = []
    for number in range(count):
        about = (f"event-{number}", f"rater-{number % raters}", f"group-{number}", "What of the river?")
        follows = rng.random() >= noise
        if rng.random() < pair_share:
            asking, other = make_text(rng, "?"), make_text(rng, ".")
            votes.append(Vote(*about, *((asking, other) if follows else (other, asking))))
        else:
            asks = bool(rng.random() < 0.4)
            votes.append(Vote(*about, make_text(rng, "?" if asks else "."), liked=asks == follows))
    return votes


def compare(judge, champion, challenger, prompt="What of the river?"):
    return asyncio.run(judge.compare(prompt, champion, challenger))
