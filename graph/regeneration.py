"""The second attempt's job: names what was wrong, takes a new seed, samples cooler. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from graph.contracts import Finding, GenerationJob, Message

COOLING = 0.7
"""Factor on the temperature of a second attempt: less sampling noise, yet not the same text again."""

_ADVICE = {
    "empty": "Give a real answer.",
    "truncation": "Finish your last sentence.",
    "repetition": "Do not repeat yourself.",
    "language": "Answer in the language that was asked for.",
    "json_schema": "Answer with valid JSON only, as the schema says.",
    "structure": "Keep to the list form that was asked for.",
}


def regeneration_job(job: GenerationJob, findings: Sequence[Finding]) -> GenerationJob:
    """``job`` for one more attempt, with the failed checks named at the end of the last user turn."""
    failed = dict.fromkeys(f.check for f in findings if f.action in ("regenerate", "fallback", "fix"))
    advice = " ".join(_ADVICE[name] for name in failed if name in _ADVICE)
    messages = list(job.messages)
    if advice:
        last = max(i for i, message in enumerate(messages) if message.role == "user")
        messages[last] = Message("user", f"{messages[last].content}\n{advice}")
    sampling = job.sampling
    return replace(
        job,
        attempt=job.attempt + 1,
        messages=tuple(messages),
        sampling=replace(
            sampling,
            temperature=sampling.temperature * COOLING,
            seed=None if sampling.seed is None else sampling.seed + 1,
        ),
    )
