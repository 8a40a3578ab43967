"""How a refused value is shown, and what was probably meant. Read by everything here that refuses input."""

from collections.abc import Iterable
from difflib import get_close_matches

# Long enough for every name in the catalogue; difflib's time grows with the square of the length, and what it
# compares here came from a stranger.
MAX_COMPARED_CHARS = 40
MAX_SHOWN_CHARS = 60


def shown(value: object) -> str:
    """Show a value in an error message, cut to 60 characters; never raises."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits has no repr; nor has a deep nest
        text = f"<{type(value).__name__} too large to show>"
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def did_you_mean(got: object, allowed: Iterable[str]) -> str:
    """Name the nearest allowed word as `` Did you mean 'x'?``, or return an empty text when none is near."""
    if not isinstance(got, str) or len(got) > MAX_COMPARED_CHARS:
        return ""
    by_folded = {name.casefold(): name for name in allowed}
    near = get_close_matches(got.casefold(), by_folded, n=1, cutoff=0.6)
    return f" Did you mean {by_folded[near[0]]!r}?" if near else ""
