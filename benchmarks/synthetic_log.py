"""A feedback log as months of traffic would leave it, seeded: what `benchmarks.analysis` reads.

Made on purpose, so that a report on it has something to find: approval follows quality, creativity at its ends
fails more checks, an adapter takes over half of the traffic halfway and answers better, one rater is far busier
than all others, prompts have Zipf frequencies, feedback is retried, taken back and replaced.
"""

import math
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deployments.feedback.schema import to_row

END_US = 1_750_000_000_000_000
"""2025-06-15. Fixed: equal seeds give equal logs."""
DAYS = 30
DAY_US = 86_400_000_000
GENERATION_SHARE = 0.6
"""Of all rows; the rest is feedback and a few rows of the service."""
PROMPTS = 20_000
RATERS = 30_000
_TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")
_CHECKS = ("repetition", "language", "truncation", "structure", "json_schema")
_FORMATS = ("markdown", "plain", "bullets", "steps", "json")
_LANGUAGES = ("auto", "en", "de", "fr", "es", "ja")
_KINDS = ("thumb", "implicit", "rating", "comment", "label", "correction", "preference", "retract", "supersede")
_KIND_WEIGHTS = (55, 22, 8, 4, 3, 2, 1, 2, 3)
_WORDS = (
    "the a of to in light water answer reason because small large first second model energy people number field",
    "system example question often never between with under over time space change stays grows falls clear simple",
)
_ZIPF_EXPONENT = 1.1


@dataclass(frozen=True, slots=True)
class _Answer:
    """What feedback needs to know of an answer."""

    generation_id: str
    tenant: str
    model: str
    adapter: str | None
    ts_us: int
    quality: float


class SyntheticLog:
    """Rows of a log in order of time, whole (`schema.to_row`).

    Args:
        events: Rows in all, about.
        seed: Equal seeds, equal rows.
    """

    def __init__(self, events: int, seed: int) -> None:
        self.events = events
        self._rng = random.Random(seed)
        self._sentences = [self._sentence() for _ in range(2000)]
        self._recent: list[_Answer] = []
        self._given: list[dict[str, Any]] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """About ``events`` rows; one in a hundred feedback rows comes twice, as a retry that reached two writers."""
        rng = self._rng
        for number in range(self.events):
            position = number / self.events
            # Twice as much traffic at noon as at midnight.
            day, hour = divmod(position * DAYS, 1.0)
            hour += 0.05 * math.sin(2 * math.pi * hour)
            now_us = END_US - DAYS * DAY_US + int((day + hour) * DAY_US)
            if rng.random() < GENERATION_SHARE or not self._recent:
                yield self._generation(now_us, position)
            elif rng.random() < 0.003:
                yield self._service(now_us)
            else:
                row = self._feedback(now_us)
                yield row
                if rng.random() < 0.01:
                    yield row

    def _generation(self, now_us: int, position: float) -> dict[str, Any]:
        rng = self._rng
        dials = {name: _dial(rng, default) for name, default in _DIALS.items()}
        tenant = rng.choices(_TENANTS, (50, 25, 15, 7, 3))[0]
        adapter = "a3f9c2d1-support" if position > 0.5 and rng.random() < 0.5 else None
        answer_format = rng.choices(_FORMATS, (60, 15, 12, 8, 5))[0]
        language = rng.choices(_LANGUAGES, (70, 8, 8, 6, 5, 3))[0]
        wild = abs(dials["creativity"] - 40) / 60
        failing = 0.04 + 0.12 * wild**2 + (0.05 if language == "ja" else 0.0) - (0.02 if adapter else 0.0)
        failed = [rng.choice(_CHECKS)] if rng.random() < failing else []
        quality = min(rng.betavariate(9, 1.5) * (0.55 if failed else 1.0) + (0.02 if adapter else 0.0), 1.0)
        unvalidated = rng.random() < 0.004
        outcome = "unvalidated" if unvalidated else _outcome(rng, bool(failed))
        prompt = min(int(PROMPTS * rng.random() ** (1 / (1 - 1 / _ZIPF_EXPONENT) / 2)), PROMPTS - 1)
        model = "smollm2-135m-instruct" if rng.random() < 0.8 else "smollm2-360m-instruct"
        generation_id = _uuid7(rng, now_us)
        words = 25 * 36 ** (dials["depth"] / 100)
        self._remember(_Answer(generation_id, tenant, model, adapter, now_us, quality))
        return to_row(
            {
                "event_id": generation_id,
                "kind": "generation",
                "generation_id": generation_id,
                "tenant": tenant,
                "model": model,
                "adapter": adapter,
                "arm": ("challenger" if adapter else "champion") if position > 0.5 else None,
                "controls_hash": f"{hash(tuple(dials.values())) & 0xFFFFFFFFFFFFFFFF:016x}",
                "ts_server_us": now_us,
                "prompt": [
                    {"role": "system", "content": "You are a patient assistant of the support team."},
                    {"role": "user", "content": f"Question {prompt}: {self._sentences[prompt % 2000]}"},
                ],
                "answer": self._text(words * rng.lognormvariate(0.0, 0.25)),
                "controls": {"lp": {n: {"value": v, "source": "request"} for n, v in dials.items()}, "grammar": False},
                "quality": {"outcome": outcome, "score": round(quality, 4), "findings": [{"check": c} for c in failed]},
                "timings": {
                    "generating_ms": round(rng.lognormvariate(6.6, 0.5), 3),
                    "judging_ms": round(rng.lognormvariate(1.2, 0.6), 3),
                    "formatting_ms": 0.2,
                    "recording_ms": round(rng.lognormvariate(0.8, 0.5), 3),
                    "first_release_ms": round(rng.lognormvariate(5.0, 0.5), 3),
                },
                "versions": {"engine": "simulated 1"},
                "outcome": outcome,
                "quality_score": None if unvalidated else round(quality, 4),
                "failed_checks": None if unvalidated else failed,
                "answer_format": answer_format,
                "language": language,
                "settings": {
                    **dials,
                    "format": answer_format,
                    "language": language,
                    "preset": rng.choices(("balanced", "quick", "teach", "brainstorm"), (80, 8, 8, 4))[0],
                    "hedging": rng.choices(("natural", "minimal", "explicit"), (85, 10, 5))[0],
                    "summary_first": rng.choices(("off", "on"), (85, 15))[0],
                },
                "prompt_template": f"{rng.choices((11, 12, 13), (60, 30, 10))[0]:016x}",
                "prompt_hash": f"{prompt * 2654435761 & 0xFFFFFFFFFFFFFFFF:016x}",
            }
        )

    def _feedback(self, now_us: int) -> dict[str, Any]:
        rng = self._rng
        about = self._recent[int(len(self._recent) * rng.random() ** 0.5)]
        kind = rng.choices(_KINDS, _KIND_WEIGHTS)[0]
        if kind in ("retract", "supersede") and not self._given:
            kind = "thumb"
        rater = 7 if rng.random() < 0.03 else int(RATERS * rng.random() ** 2)
        liked = rng.random() < 1 / (1 + math.exp(-(1.1 + 6.0 * (about.quality - 0.75))))
        fields: dict[str, Any] = {
            "event_id": _uuid7(rng, now_us),
            "kind": kind,
            "generation_id": "0190-of-a-lost-log" if rng.random() < 0.001 else about.generation_id,
            "tenant": about.tenant,
            "model": about.model,
            "adapter": about.adapter,
            "name": kind,
            "source_type": "implicit" if kind == "implicit" else "human",
            "source_id": f"{rater:016x}",
            "ts_server_us": now_us,
        }
        match kind:
            case "thumb":
                fields["value_bool"] = liked
                if rng.random() < 0.1:
                    fields["text"] = self._text(10)
            case "rating":
                fields["value_num"] = float(
                    rng.choices((1, 2, 3, 4, 5), (1, 1, 3, 8, 6) if liked else (6, 5, 3, 1, 1))[0]
                )
            case "label":
                fields["value_str"] = rng.choice(("too long", "wrong tone", "helpful", "outdated"))
            case "comment" | "correction":
                fields["text"] = self._text(12 if kind == "comment" else 80)
            case "preference":
                fields |= {
                    "other_generation_id": self._recent[0].generation_id,
                    "value_str": "this" if liked else "other",
                }
            case "implicit":
                fields["name"] = rng.choices(("copied", "regenerated", "abandoned", "dwell"), (40, 25, 10, 25))[0]
                if fields["name"] == "dwell":
                    fields["value_num"] = round(rng.lognormvariate(2.5, 1.0), 1)
            case _:
                target = rng.choice(self._given)
                fields |= {name: target[name] for name in ("generation_id", "tenant", "source_id")}
                fields["supersedes"] = target["event_id"]
                if kind == "supersede":
                    fields |= {"value_bool": not target["value_bool"]}
        row = to_row(fields)
        if kind == "thumb":
            self._given.append(row)
            if len(self._given) > 5000:
                del self._given[:2500]
        return row

    def _service(self, now_us: int) -> dict[str, Any]:
        about = self._rng.choice(self._recent)
        erases = self._rng.random() < 0.2
        return to_row(
            {
                "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, about.generation_id))
                if erases
                else _uuid7(self._rng, now_us),
                "kind": "tombstone" if erases else "undelivered",
                "name": "generation" if erases else None,
                "generation_id": about.generation_id,
                "supersedes": about.generation_id if erases else None,
                "tenant": about.tenant,
                "ts_server_us": now_us,
            }
        )

    def _remember(self, answer: _Answer) -> None:
        self._recent.append(answer)
        if len(self._recent) > 20_000:
            del self._recent[:10_000]

    def _sentence(self) -> str:
        return " ".join(self._rng.choices(" ".join(_WORDS).split(), k=self._rng.randint(6, 18))).capitalize() + "."

    def _text(self, words: float) -> str:
        return " ".join(self._rng.choices(self._sentences, k=max(round(words / 12), 1)))


_DIALS = {"depth": 50, "creativity": 35, "technicality": 50, "formality": 50}


def _dial(rng: random.Random, default: int) -> int:
    return default if rng.random() < 0.6 else 5 * rng.randint(0, 20)


def _outcome(rng: random.Random, failed: bool) -> str:
    names, weights = (("degraded", "blocked"), (85, 15)) if failed else (("pass", "fixed", "retried"), (90, 7, 3))
    return rng.choices(names, weights)[0]


def _uuid7(rng: random.Random, now_us: int) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) from our own clock and dice."""
    value = (now_us // 1000) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
    return str(uuid.UUID(int=value))
