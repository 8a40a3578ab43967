"""The questions that the dials are turned on: two sets of 40 pairs of our own, five each of eight kinds.

Curves are tuned on the one and measured on the other: look at answers of the held-out set only in a finished record.

A pair is a question and a follow-up of the same topic and kind: immediacy needs two turns. All in English, for the
yardsticks are; plain enough for a model of 135M parameters to say something, and none asks for a length, a tone or a
form, which are what the dials set.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question with its follow-up. ``index`` is its place in its set, whatever part of it is asked."""

    index: int
    kind: str
    question: str
    follow_up: str


_TUNING: Mapping[str, tuple[tuple[str, str], ...]] = {
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


_HELD_OUT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "explain": (
        ("How does a refrigerator keep food cold?", "How does an oven make food hot?"),
        ("How do plants make their food?", "How do plants take up water?"),
        ("What is a black hole?", "What is a galaxy?"),
        ("How does a bank earn money?", "How does an insurance company earn money?"),
        ("What does the liver do in the body?", "What do the kidneys do in the body?"),
    ),
    "how-to": (
        ("How do I bake a simple cake?", "How do I make a simple vegetable soup?"),
        ("How do I paint a room?", "How do I hang a picture on a wall?"),
        ("How do I teach a dog to sit?", "How do I teach a dog to come when I call?"),
        ("How do I write a good letter of complaint?", "How do I write a good letter of thanks?"),
        ("How do I clean a camera lens?", "How do I take a sharp photo at night?"),
    ),
    "compare": (
        ("How does a fruit differ from a vegetable?", "How does a herb differ from a spice?"),
        ("How do trains differ from aeroplanes for travel?", "How do ships differ from trucks for goods?"),
        ("How does a novel differ from a short story?", "How does a poem differ from a song?"),
        ("How does running compare with swimming as exercise?", "How does yoga compare with weight training?"),
        ("What is the difference between a lake and a river?", "What is the difference between a hill and a mountain?"),
    ),
    "advice": (
        ("How can I remember names better?", "How can I remember what I read?"),
        ("What should I pack for a week by the sea?", "What should I pack for a week in the snow?"),
        ("How can I get along with a difficult neighbour?", "How can I get along with a difficult colleague?"),
        ("What should I ask a doctor before an operation?", "What should I do after an operation?"),
        ("How can I spend less time on my phone?", "How can I spend more time with my friends?"),
    ),
    "describe": (
        ("Describe an old library.", "Describe a modern museum."),
        ("Describe a thunderstorm over a plain.", "Describe a quiet snowfall."),
        ("Describe the human eye.", "Describe the human ear."),
        ("Describe a volcano.", "Describe a glacier."),
        ("Describe a sailing boat.", "Describe a hot-air balloon."),
    ),
    "narrate": (
        ("Tell the story of a clock that stops at midnight.", "Tell who repairs the clock and how."),
        ("Tell how people learned to use fire.", "Tell how people learned to farm."),
        ("Tell the story of two sisters who open a bakery.", "Tell what happens on the bakery's first day."),
        ("Tell how the printing press changed Europe.", "Tell how the telephone changed the world."),
        ("Tell the story of a bird that is afraid to fly.", "Tell about the bird's first long journey."),
    ),
    "plan": (
        ("Plan a small vegetable garden.", "Plan the work in that garden over a year."),
        ("Plan a school trip to a science museum.", "Plan a school trip to a farm."),
        ("Plan how a family could use less electricity.", "Plan how a family could use less water."),
        ("Plan how to train for a ten-kilometre run.", "Plan how to train for a long bicycle tour."),
        ("Plan a surprise dinner for a friend.", "Plan a farewell party for a colleague."),
    ),
    "why": (
        ("Why do leaves change colour in autumn?", "Why do some trees stay green in winter?"),
        ("Why do we yawn?", "Why do we laugh?"),
        ("Why is honesty important in business?", "Why is trust important in a team?"),
        ("Why do metals rust?", "Why does wood rot?"),
        ("Why did people build castles?", "Why did people build city walls?"),
    ),
}  # fmt: skip

HELD_OUT, TUNING = "held-out", "tuning"
_SETS = {HELD_OUT: _HELD_OUT, TUNING: _TUNING}
PROMPT_SETS = tuple(_SETS)


def all_prompts(prompt_set: str = HELD_OUT) -> tuple[Prompt, ...]:
    """Every prompt of a set, kinds taking turns, so that the first n hold every kind about equally often."""
    rounds = zip(*([(kind, *pair) for pair in pairs] for kind, pairs in _SETS[prompt_set].items()), strict=True)
    return tuple(
        Prompt(index, kind, question, follow_up)
        for index, (kind, question, follow_up) in enumerate(each for one in rounds for each in one)
    )


def choose_prompts(count: int, prompt_set: str = HELD_OUT) -> tuple[Prompt, ...]:
    """The first ``count`` prompts of a set.

    Raises:
        ValueError: There are not so many.
    """
    prompts = all_prompts(prompt_set)
    if not 1 <= count <= len(prompts):
        raise ValueError(f"got {count} prompts; there are 1 to {len(prompts)}")
    return prompts[:count]
