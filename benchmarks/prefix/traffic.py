"""Made-up conversations that share what real ones do: their own history, and system prompts, some of them popular."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.generator.simulated_prose import Prose
from deployments.generator.simulated_tokens import CHARACTERS_PER_TOKEN
from graph.contracts import Message

DIRECTIVES = (
    "Answer in about 60 words.",
    "Answer in about 200 words, for an expert.",
    "Answer in numbered steps, in plain words.",
)
"""What the service appends to the last user turn, and the next turn's history does not have."""
ANSWER_TOKENS = (50, 300)
_SENTENCES = 3000
"""Enough that no two texts are alike, and quickly made."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What the traffic is made of. Shares are of requests; the rest are single questions that share nothing."""

    chats: float = 0.5
    """Of turns of conversations."""
    calls: float = 0.35
    """Of single calls by applications, each with a long system prompt of its own."""
    turns: float = 5.0
    """Mean of a conversation; geometric."""
    applications: int = 40
    """With a system prompt of their own each; the popularity is Zipf's."""
    zipf: float = 1.1
    system_tokens: tuple[int, int] = (400, 2000)
    assistants: int = 12
    """System prompts of conversations."""
    question_tokens: tuple[int, int] = (20, 150)
    requests_per_s: float = 20.0
    reads_s: float = 10.0
    """Mean of what a person takes for reading and writing; exponential."""
    tenants: int = 3
    """Each with a cache of its own; an application belongs to one."""


@dataclass(slots=True)
class Conversation:
    """One client's turns, to be asked one after the other."""

    starts_s: float
    tenant: str
    system: str | None
    questions: list[str] = field(default_factory=list)
    answer_tokens: list[int] = field(default_factory=list)
    reads_s: list[float] = field(default_factory=list)
    """After each answer."""

    def messages(self, turn: int, answers: Sequence[str]) -> tuple[Message, ...]:
        """What the client sends for a turn, counted from 0.

        Args:
            answers: To all turns before.
        """
        begun = () if self.system is None else (Message("system", self.system),)
        history = itertools.chain.from_iterable(
            (Message("user", question), Message("assistant", answer))
            for question, answer in zip(self.questions[:turn], answers, strict=True)
        )
        return (*begun, *history, Message("user", self.questions[turn]))


class Texts:
    """Texts of a length, each new, made of sentences that were made before."""

    def __init__(self, rng: random.Random) -> None:
        prose = Prose(rng)
        self._sentences = [prose.sentence() for _ in range(_SENTENCES)]
        self._rng = rng
        self._number = itertools.count()

    def make(self, tokens: int, begin: str) -> str:
        """A text of about so many tokens, which begins in its own way."""
        text = f"{begin} {next(self._number)}:"
        while len(text) < tokens * CHARACTERS_PER_TOKEN:
            text += " " + self._rng.choice(self._sentences)
        return text[: max(tokens * CHARACTERS_PER_TOKEN, len(begin) + 8)]


def conversations(mix: Mix, requests: int, seed: int) -> list[Conversation]:
    """Conversations with at least so many turns together, by the time they start."""
    rng = random.Random(seed)
    texts = Texts(rng)
    systems = [texts.make(rng.randint(*mix.system_tokens), "You work for application") for _ in range(mix.applications)]
    assistants = [texts.make(rng.randint(*mix.system_tokens), "You are assistant") for _ in range(mix.assistants)]
    made: list[Conversation] = []
    left, now = requests, 0.0
    singles = 1 - mix.chats - mix.calls
    starts = (mix.chats / mix.turns, mix.calls, singles)
    while left > 0:
        now += rng.expovariate(mix.requests_per_s * sum(starts))
        (kind,) = rng.choices(("chat", "call", "single"), starts)
        if kind == "single":
            conversation = Conversation(now, f"tenant-{rng.randrange(mix.tenants)}", None)
        else:
            prompts = assistants if kind == "chat" else systems
            (at,) = rng.choices(range(len(prompts)), [1 / (rank + 1) ** mix.zipf for rank in range(len(prompts))])
            conversation = Conversation(now, f"tenant-{at % mix.tenants}", prompts[at])
        for _ in range(_geometric(rng, mix.turns) if kind == "chat" else 1):
            conversation.questions.append(texts.make(rng.randint(*mix.question_tokens), "Question"))
            conversation.answer_tokens.append(rng.randint(*ANSWER_TOKENS))
            conversation.reads_s.append(rng.expovariate(1 / mix.reads_s))
        left -= len(conversation.questions)
        made.append(conversation)
    return made


def _geometric(rng: random.Random, mean: float) -> int:
    return next(number for number in itertools.count(1) if rng.random() < 1 / mean)
