"""The questions that the dials are turned on: 40 pairs of our own, five each of eight kinds, from tea to physics.

A pair is a question and a follow-up of the same topic and kind: immediacy needs two turns. All in English, for the
yardsticks are; plain enough for a model of 135M parameters to say something, and none asks for a length, a tone or a
form, which are what the dials set.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question with its follow-up. ``index`` is its place in the whole set, whatever part of it is asked."""

    index: int
    kind: str
    question: str
    follow_up: str


_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "explain": (
        ("How does a vaccine work?", "How does the body remember a germ for many years?"),
        ("What happens when water boils?", "What happens when water freezes?"),
        ("How does a battery store energy?", "How does a battery get charged again?"),
        ("What is inflation in an economy?", "What does a central bank do about inflation?"),
        ("How does a computer remember things?", "How does a computer send data to another computer?"),
    ),
    "how-to": (
        ("How do I make a good cup of tea?", "How do I make a good cup of coffee?"),
        ("How do I change a flat bicycle tyre?", "How do I keep a bicycle chain in good condition?"),
        ("How do I grow tomatoes at home?", "How do I protect tomato plants from pests?"),
        ("How do I back up the files on my computer?", "How do I choose a safe password for my computer?"),
        ("How do I remove a stain from a shirt?", "How do I wash a wool sweater?"),
    ),
    "compare": (
        ("What is the difference between weather and climate?", "What is the difference between rain and snow?"),
        ("How do cats differ from dogs as pets?", "How do birds differ from fish as pets?"),
        ("How does solar power compare with wind power?", "How does nuclear power compare with coal power?"),
        ("How does a virus differ from a bacterium?", "How does a cold differ from the flu?"),
        ("How does living in a city compare with living in a village?", "How does a house compare with an apartment?"),
    ),
    "advice": (
        ("What should I do before a first job interview?", "What should I do after a job interview?"),
        ("How can I sleep better at night?", "How can I have more energy in the morning?"),
        ("What should I think about before I buy a used car?", "What should I think about before I sell my car?"),
        ("How can I save money every month?", "How can I pay back my debts faster?"),
        ("What can I do about back pain at a desk?", "What can I do about tired eyes at a screen?"),
    ),
    "describe": (
        ("Describe a busy market in the morning.", "Describe the same market at night."),
        ("Describe the human heart.", "Describe the human lungs."),
        ("Describe a forest in autumn.", "Describe a beach in summer."),
        ("Describe the planet Mars.", "Describe the planet Jupiter."),
        ("Describe a steam engine.", "Describe an electric motor."),
    ),
    "narrate": (
        ("Tell the story of a lost dog that finds its way home.", "Tell what the dog does on the next day."),
        ("Tell how the first railways changed the world.", "Tell how the first aeroplanes changed the world."),
        ("Tell the story of a lighthouse keeper in a storm.", "Tell what the lighthouse keeper finds after the storm."),
        ("Tell how the Roman Empire came to an end.", "Tell how the Middle Ages came to an end."),
        ("Tell the story of a child who plants a tree.", "Tell what becomes of the tree many years later."),
    ),
    "plan": (
        ("Plan a birthday party for a six-year-old.", "Plan a picnic for the same family."),
        ("Plan a weekend trip to the mountains.", "Plan a weekend trip to the sea."),
        ("Plan how a small shop could get more customers.", "Plan how the shop could keep its customers."),
        ("Plan how to learn a new language in a year.", "Plan how to learn to play the guitar in a year."),
        ("Plan an experiment that shows that plants need light.", "Plan one that shows that plants need water."),
    ),
    "why": (
        ("Why is the sky blue?", "Why is the sky red in the evening?"),
        ("Why do people dream?", "Why do people forget things?"),
        ("Why is reading good for children?", "Why is playing outside good for children?"),
        ("Why do some countries use more energy than others?", "Why do some countries have more trade than others?"),
        ("Why should software be tested?", "Why should software be kept up to date?"),
    ),
}  # fmt: skip


def all_prompts() -> tuple[Prompt, ...]:
    """Every prompt, kinds taking turns, so that the first n hold every kind about equally often."""
    rounds = zip(*([(kind, *pair) for pair in pairs] for kind, pairs in _PAIRS.items()), strict=True)
    return tuple(
        Prompt(index, kind, question, follow_up)
        for index, (kind, question, follow_up) in enumerate(each for one in rounds for each in one)
    )


def choose_prompts(count: int) -> tuple[Prompt, ...]:
    """The first ``count`` prompts.

    Raises:
        ValueError: There are not so many.
    """
    prompts = all_prompts()
    if not 1 <= count <= len(prompts):
        raise ValueError(f"got {count} prompts; there are 1 to {len(prompts)}")
    return prompts[:count]
