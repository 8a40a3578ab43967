"""What the Generator asks of an engine. Implemented by ``VllmEngine`` and ``SimulatedEngine``; nothing else in
Rheostat knows which one answers."""

from collections.abc import AsyncGenerator
from typing import Protocol

from graph.contracts import EngineInfo, EngineLoad, GenerationJob, TokenDelta


class Engine(Protocol):
    """Turns jobs into token deltas, any number at a time, in one event loop.

    Clauses, each of which a test can check:

    1. ``start`` is awaited once, before all else. Before it has returned, and after ``shutdown``, ``generate`` and
       ``check_health`` raise ``Unavailable``.
    2. The deltas of a job, joined, are its answer. At least one delta comes. The last one and only it has a
       ``finish_reason``; the answer may be empty.
    3. ``prompt_tokens`` is the same, and above 0, in every delta; the ``token_count`` add up to ``max_tokens`` at
       most. With ``top_logprobs`` set, a delta has one logprob entry for each token it counts.
    4. A stop string never shows in the answer; nor does anything after it.
    5. A prompt that does not fit raises ``InvalidRequest`` with code ``context_length_exceeded`` and param
       ``messages`` before the first delta. A prompt that fits leaves room for at least one token; an answer that
       fills the room ends with ``length``.
    6. An engine that dies under a job raises ``Unavailable`` in it; deltas that came before stay valid.
    7. Closing the generator, or cancelling the task that awaits it, ends the work for that job in the engine: it
       leaves ``load()``. A generator that was never iterated costs nothing.
    8. After ``add_adapter(name)`` a job that names it is answered by it, and its deltas say so; ``remove_adapter``
       takes it away. Neither disturbs jobs under way. A job of an unknown name is answered by the base model. One that
       cannot be loaded raises in ``add_adapter`` and changes nothing.
    9. The same messages, sampling and grammar with the same ``seed`` give the same text, as far as the hardware
       allows it.
    """

    @property
    def info(self) -> EngineInfo:
        """What is loaded. Valid once ``start`` has returned."""
        ...

    async def start(self) -> None:
        """Loads the model. May block the event loop. Raises ConfigurationError on settings it cannot serve."""
        ...

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        """The answer as an async generator (it has ``aclose``): nothing happens before it is iterated.

        Raises, while it is iterated: InvalidRequest (clause 5, or sampling or a grammar that cannot be served);
        Unavailable (clauses 1 and 6).
        """
        ...

    async def add_adapter(self, name: str, path: str) -> None:
        """Loads a LoRA adapter and keeps it resident. Raises ConfigurationError where the engine takes none.

        Args:
            name: By which jobs name it. Never the name of other content.
            path: Its folder on this machine, which stays there and never changes.
        """
        ...

    async def remove_adapter(self, name: str) -> None:
        """Forgets it, if it is there."""
        ...

    async def check_health(self) -> None:
        """Returns when the engine can serve. Raises Unavailable when it is dead and must be replaced."""
        ...

    def load(self) -> EngineLoad:
        """How busy the engine is now. Does not block."""
        ...

    def shutdown(self) -> None:
        """Ends the engine and what it started. Jobs under way raise Unavailable. May be called twice."""
        ...
