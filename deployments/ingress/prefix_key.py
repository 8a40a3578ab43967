"""What of a request decides which replica answers it: the part of the prompt that later prompts begin with too. Pure.

A prefix cache finds only what two prompts have in common from their first token on, under the same salt and adapter.
Two kinds of prompts have much in common:

1. The turns of a conversation: each repeats all before it. What all of them hold, the first included, is everything
   up to the end of the first user turn, so the *conversation* is a hash of that: the first turn and the tenth meet. It
   is taken from the messages as the client sent them. What Rheostat appends to the last user turn (directive, sources,
   the advice of a second attempt) is not in the history that comes back with the next turn.
2. Different conversations with the same system prompt, template or examples. Their *beginning* is a hash of the first
   ``BEGINNING_CHARS`` characters. Of the characters and not of the system turn: instructions also come inside a first
   user turn, and a system prompt may end in something of each user's own. What is shorter than that as a whole is a
   beginning of its own, for what it could share is soon computed anew.

One key cannot serve both; ``deployments/generator/placement.py`` says how two do.
"""

import hashlib
from collections.abc import Sequence

from graph.contracts import Message, PrefixKey

BEGINNING_CHARS = 1024
"""About 256 tokens of English, by which OpenAI routes too
(https://developers.openai.com/api/docs/guides/prompt-caching)."""


def prefix_key(messages: Sequence[Message], cache_salt: str | None, adapter: str | None) -> PrefixKey:
    """The key of a request; the same in every process.

    Args:
        messages: As the client sent them, without what Rheostat adds.
        cache_salt: Whose cache it is; None: one that all share.
        adapter: The adapter that should answer; None: the base model.
    """
    first_user = next((at for at, message in enumerate(messages) if message.role == "user"), len(messages) - 1)
    begun = "".join(f"{message.role}\0{message.content}\0" for message in messages[: first_user + 1])
    cache = f"{cache_salt or ''}\0{adapter or ''}\0"
    return PrefixKey(_hash(cache + begun[:BEGINNING_CHARS]), _hash(cache + begun))


def _hash(text: str) -> int:
    """64 bits. A stranger's text may hold lone surrogates."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
