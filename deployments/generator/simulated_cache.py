"""The simulated engine's prefix cache: blocks of prompts, found by a chain of hashes, the longest unused lost first.

As in vLLM (https://docs.vllm.ai/en/latest/design/prefix_caching.html): a block is found only where all before it is the
same, under the same salt and adapter; only whole blocks are kept; a prompt's last token is always computed.
Answers are not kept: in a conversation a directive stands before them that the next prompt no longer has.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from deployments.generator.simulated_tokens import CHARACTERS_PER_TOKEN
from graph.contracts import GenerationJob, Message


class SimulatedCache(BaseModel):
    """``engine.simulated.cache``. Without it nothing is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocks: PositiveInt
    """How many it holds."""
    block_tokens: Annotated[int, Field(ge=1, le=1024)] = 16
    """Tokens of a block."""


class BlockCache:
    """The blocks of one replica."""

    def __init__(self, settings: SimulatedCache) -> None:
        self._settings = settings
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def find(self, job: GenerationJob) -> int:
        """How many of the prompt's tokens were there; takes in the others."""
        block_tokens = self._settings.block_tokens
        return block_tokens * self.admit(block_hashes(job.messages, job.cache_salt, job.adapter, block_tokens))

    def admit(self, hashes: Sequence[int]) -> int:
        """Takes in a prompt's blocks; returns how many of its first ones were there."""
        found = next((at for at, block in enumerate(hashes) if block not in self._blocks), len(hashes))
        # The last block first: what is lost first is then a prompt's end, and what was before it can still be found.
        for block in reversed(hashes):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._settings.blocks:
            self._blocks.popitem(last=False)
        return found


def block_hashes(
    messages: Iterable[Message], cache_salt: str | None, adapter: str | None, block_tokens: int
) -> tuple[int, ...]:
    """One hash a whole block of the prompt, each of all that is before it too; the same within one process.

    A token is four characters, as ``count_prompt_tokens`` counts them; the last token is in no block.
    """
    text = "".join(message.content for message in messages)
    size = block_tokens * CHARACTERS_PER_TOKEN
    hashes: list[int] = []
    chain = hash((cache_salt, adapter))
    for start in range(0, len(text) - size, size):
        chain = hash((chain, text[start : start + size]))
        hashes.append(chain)
    return tuple(hashes)
