"""From resolved knobs to what the engine and the model are given: directive, sampling, grammar and the receipt.

Pure and cheap (well under a millisecond): called by the ingress once a request. It owns no text or number of a
knob (the catalogue does) and no form (``grammar.py`` does); it decides how they add up:

* A phrase goes to the end of the last user turn, never into a system turn: moving a slider leaves everything
  before it as it was, and the engine's prefix cache with it.
* A parameter that the caller set wins over what a knob compiles, and the receipt says so.
* Where a grammar closes the answer, it decides the length: no min_tokens, and max_tokens above its own bound.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

from deployments.controls.catalogue import Catalogue
from deployments.controls.grammar import AnswerGrammar, build_grammar, schema_grammar
from deployments.controls.knobs import Slider, interpolate
from deployments.controls.measure import measure
from deployments.controls.prompt_language import is_english
from deployments.controls.request import (
    ControlsRequest,
    ResolvedControls,
    SetLevel,
    SetValue,
    Source,
    parse_controls,
    resolve,
)
from graph.contracts import AnswerFormat, LogitsPlan, Message, Rendering, Sampling
from graph.errors import InvalidRequest

__all__ = [
    "CallerSampling",
    "CompiledControls",
    "ControlsRequest",
    "ResolvedControls",
    "Source",
    "compile_controls",
    "measure",
    "parse_controls",
    "resolve",
]

# Around the target length, in tokens: the range in which an answer is about as long as asked.
MIN_SHARE, MAX_SHARE = 0.6, 1.6
# Room to finish a sentence that the target cuts into; without it, short answers are cut most.
SLACK_TOKENS = 32
# A tokenizer spends at most a token a character on Latin text, and a token a byte (three a character) on scripts
# that its vocabulary hardly knows. A limit above what a grammar accepts costs nothing: the grammar ends first.
LATIN_TOKENS_PER_CHAR, OTHER_TOKENS_PER_CHAR = 1, 3
# Where an answer aims to end under a token limit: a sentence may still take the rest.
END_SHARE = 0.8
# Enough of a prompt for the words that its answer will repeat.
SPARED_CHARS = 4000
# Enough of a prompt to see which script it is in.
SCRIPT_SAMPLE_CHARS = 400

_OFF = Sampling()


@dataclass(frozen=True, slots=True)
class CallerSampling:
    """The sampling parameters that the caller set; None: not set. Units and meaning as in ``Sampling``."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    logit_bias: Mapping[int, float] | None = None
    top_logprobs: int | None = None

    @property
    def samples_by_hand(self) -> bool:
        """Whether the caller chose how tokens are drawn."""
        return any(value is not None for value in (self.temperature, self.top_p, self.top_k, self.min_p))


@dataclass(frozen=True, slots=True)
class CompiledControls:
    """What one request's controls come to. Made by ``compile_controls``, read by the ingress; never mutated."""

    messages: tuple[Message, ...]
    sampling: Sampling
    logits: LogitsPlan | None
    """None: no lever is used."""
    expand_contractions: bool
    grammar: Mapping[str, Any] | None
    """A structural tag, or None for free text."""
    grammar_kind: str | None
    """What the tag holds, joined by ``+``: ``summary+steps``, ``json``, ``schema``; None without a tag."""
    answer_format: AnswerFormat
    rendering: Rendering
    language: str | None
    """ISO 639-1; None: the language of the prompt."""
    speaks_english: bool
    """As asked for, else as the prompt reads: what levers on words and calibrations rest on."""
    json_schema: Mapping[str, Any] | None
    """What the answer's JSON must meet; None: no JSON is expected."""
    target_words: int | None
    """None: no length was asked for."""
    directive: str | None
    """What was appended to the last user turn, without the texts of the sources; None: nothing."""
    reasoning: str | None
    """The effort asked of a reasoning model; None: not asked."""
    receipt: Mapping[str, Any]
    """JSON-ready: what was asked and what it became."""


@dataclass(slots=True)
class _Draft:
    """What the knobs have come to so far."""

    phrases: list[str] = field(default_factory=list)
    parameters: dict[str, tuple[float | int, str]] = field(default_factory=dict)
    """Compiled value and the knob that compiled it, by sampling parameter."""
    overrides: list[dict[str, Any]] = field(default_factory=list)
    target_words: int | None = None
    levers: dict[str, float] = field(default_factory=dict)
    target_tokens: float | None = None
    expand_contractions: bool = False


def compile_controls(
    resolved: ResolvedControls,
    catalogue: Catalogue,
    messages: tuple[Message, ...],
    asked: CallerSampling = CallerSampling(),
    *,
    json_schema: Mapping[str, Any] | None = None,
    max_context: int,
) -> CompiledControls:
    """Compile every knob into one request to the engine. Same arguments, same result; mutates nothing.

    Args:
        resolved: From ``resolve`` with the same catalogue.
        catalogue: The knobs.
        messages: The conversation, oldest first, with at least one user turn. Only the last user turn is changed,
            and only at its end.
        asked: The caller's own sampling parameters; they win.
        json_schema: The caller's, already accepted by ``check_schema``. It decides the form: ``format`` becomes
            json, and other form switches that were set by hand are refused; a preset's give way.
        max_context: Tokens that prompt and answer may have together; caps the limits that knobs set. The caller's
            own max_tokens is left as it is.

    Raises:
        InvalidRequest: no user turn; a form switch beside a JSON schema; min_tokens where a grammar closes the
            answer.
    """
    last_user = max((at for at, message in enumerate(messages) if message.role == "user"), default=None)
    if last_user is None:
        raise InvalidRequest(
            "messages: got no message of the role user; the controls direct the last one. Add one.", "messages"
        )
    draft = _Draft()
    ls = dict(resolved.ls) if json_schema is None else _give_way_to_schema(resolved, draft)
    language = ls["language"].value if "language" in ls else "auto"
    is_latin = _is_latin(catalogue, language, messages[last_user].content)
    grammar = _choose_grammar(resolved, catalogue, ls, is_latin, json_schema)

    speaks_english = is_english(language, messages[last_user].content)
    lp = {
        name: _compile_slider(name, catalogue.lp[name], level, draft, grammar, asked, speaks_english)
        for name, level in resolved.lp.items()
    }
    for name, chosen in ls.items():
        # The caller's schema says more of the form than the phrase for our own envelope.
        if name != "format" or json_schema is None:
            draft.phrases.append(catalogue.ls[name].values[chosen.value].phrase)
    source_ids = [source.id for source in resolved.sources]
    directive = " ".join(phrase for phrase in draft.phrases if phrase).replace("{ids}", ", ".join(source_ids)) or None
    sampling = _merge_sampling(draft, asked, grammar, is_latin, max_context)
    logits = _plan_logits(draft, sampling, messages[last_user].content, speaks_english)

    answer_format = cast(AnswerFormat, ls["format"].value if "format" in ls else "markdown")
    rendering = resolved.render or _IMPLIED_RENDERING.get(answer_format, "markdown")
    receipt = {
        "catalogue": catalogue.hash,
        "lp": lp,
        "ls": {name: {"value": chosen.value, "source": chosen.source} for name, chosen in ls.items()},
        "directive": directive,
        "target_words": draft.target_words,
        "sampling": _differences(sampling),
        "format": answer_format,
        "render": rendering,
        "grammar": grammar is not None,
        "overrides": draft.overrides,
    }
    reasoning = ls["reasoning"].value if "reasoning" in ls else "none"
    return CompiledControls(
        messages=_direct(messages, last_user, resolved.sources, directive),
        sampling=sampling,
        logits=logits,
        expand_contractions=draft.expand_contractions,
        grammar=grammar.tag if grammar else None,
        grammar_kind=grammar.kind if grammar else None,
        answer_format=answer_format,
        rendering=rendering,
        language=None if language == "auto" else language,
        speaks_english=speaks_english,
        json_schema=grammar.json_schema if grammar else None,
        target_words=draft.target_words,
        directive=directive,
        reasoning=None if reasoning == "none" else reasoning,
        receipt=receipt,
    )


_IMPLIED_RENDERING: Mapping[str, Rendering] = {"json": "json", "plain": "text"}
_SCHEMA_FORM = {"format": "json", "summary_first": "off", "citations": "off"}


def _give_way_to_schema(resolved: ResolvedControls, draft: _Draft) -> dict[str, SetValue]:
    """The switches as a caller's JSON schema leaves them."""
    ls = dict(resolved.ls)
    for name, value in _SCHEMA_FORM.items():
        if name not in ls or ls[name].value == value:
            continue
        if ls[name].source == "explicit":
            raise InvalidRequest(
                f"controls.ls.{name}: got {ls[name].value!r} together with a JSON schema, which decides the form of "
                f"the answer; set {value!r}, or leave one of the two out.",
                f"controls.ls.{name}",
            )
        if ls[name].source == "preset":
            draft.overrides.append({"parameter": name, "value": value, "instead_of": ls[name].value, "knob": "preset"})
        ls[name] = SetValue(value, "explicit")
    return ls


def _choose_grammar(
    resolved: ResolvedControls,
    catalogue: Catalogue,
    ls: Mapping[str, SetValue],
    is_latin: bool,
    json_schema: Mapping[str, Any] | None,
) -> AnswerGrammar | None:
    if json_schema is not None:
        return schema_grammar(json_schema)
    length_slider = catalogue.length_slider
    return build_grammar(
        cast(AnswerFormat, ls["format"].value if "format" in ls else "markdown"),
        summary_first="summary_first" in ls and ls["summary_first"].value == "on",
        source_ids=tuple(source.id for source in resolved.sources),
        is_latin=is_latin,
        # A bounded form has a size even where nobody asked for one.
        level=resolved.lp[length_slider].value if length_slider else 50,
        forms=catalogue.forms,
    )


def _compile_slider(
    name: str,
    slider: Slider,
    level: SetLevel,
    draft: _Draft,
    grammar: AnswerGrammar | None,
    asked: CallerSampling,
    speaks_english: bool,
) -> dict[str, Any]:
    """Add one slider to the draft; returns its entry in the receipt."""
    compiled: dict[str, Any] = {}
    # A caller who samples by hand and leaves the slider alone gets that sampling, not a mixture of the two.
    if level.source != "default" or (slider.untouched == "apply" and not asked.samples_by_hand):
        phrase = slider.phrase(level.value)
        for parameter, curve in slider.sampling.given.items():
            # Four decimals: below what any sampler can tell apart, and the receipt stays readable.
            compiled[parameter] = round(interpolate(curve, level.value), 4)
        if slider.length:
            words = slider.length.words(level.value)
            draft.target_words = compiled["words"] = round(words)
            phrase = phrase.replace("{words}", str(round(words)))
            if grammar is None or not grammar.is_closed:
                target_tokens = words * slider.length.tokens_per_word
                compiled["min_tokens"] = math.floor(MIN_SHARE * target_tokens)
                compiled["max_tokens"] = math.ceil(MAX_SHARE * target_tokens) + SLACK_TOKENS
                draft.target_tokens = target_tokens if slider.length.shaped else None
        draft.parameters |= {key: (value, name) for key, value in compiled.items() if key != "words"}
        levers = _compile_levers(slider, level.value, grammar, speaks_english)
        draft.levers |= levers
        compiled |= levers
        if slider.expand_contractions_from is not None and level.value >= slider.expand_contractions_from:
            is_prose = grammar is None or grammar.json_schema is None
            draft.expand_contractions = compiled["expand_contractions"] = speaks_english and is_prose
        if phrase:
            draft.phrases.append(phrase)
            compiled["phrase"] = phrase
    target = {} if level.target is None else {"target": level.target}
    return {"value": level.value, "source": level.source, **target, "compiled": compiled}


def _compile_levers(
    slider: Slider, level: int, grammar: AnswerGrammar | None, speaks_english: bool
) -> dict[str, float]:
    """The levers on the vocabulary: not on JSON, whose words are data, and not in another language than their lists."""
    if not speaks_english or (grammar is not None and grammar.json_schema is not None):
        return {}
    levers = {name: round(interpolate(curve, level), 4) for name, curve in slider.logits.given.items()}
    if grammar is not None and grammar.is_closed:
        levers.pop("stops", None)  # the grammar decides where a line's sentence ends
    return {name: strength for name, strength in levers.items() if strength or name == "rarity"}


def _plan_logits(draft: _Draft, sampling: Sampling, prompt: str, speaks_english: bool) -> LogitsPlan | None:
    target = draft.target_tokens if not sampling.ignore_eos else None
    if target is not None:
        # Within limits that the caller set: an answer that ends in time is better than one that is cut.
        limit = END_SHARE * sampling.max_tokens if sampling.max_tokens is not None else target
        target = max(min(target, limit), sampling.min_tokens, 1)
    if target is None and not draft.levers:
        return None
    spared = prompt[:SPARED_CHARS] if {"rarity", "anchor", "casual"} & draft.levers.keys() else ""
    return LogitsPlan(
        round(target) if target else None,
        connect=target is not None and speaks_english,
        **draft.levers,
        spared_text=spared,
    )


def _merge_sampling(
    draft: _Draft, asked: CallerSampling, grammar: AnswerGrammar | None, is_latin: bool, max_context: int
) -> Sampling:
    """The knobs' parameters under the caller's; overrides go into the draft."""
    compiled = draft.parameters
    if grammar is not None and grammar.is_closed:
        if asked.min_tokens:
            raise InvalidRequest(
                f"min_tokens: got {asked.min_tokens}; the answer's form ({grammar.kind}) decides where it may end. "
                "Leave min_tokens out.",
                "min_tokens",
            )
        if grammar.max_chars is not None:
            per_char = LATIN_TOKENS_PER_CHAR if is_latin else OTHER_TOKENS_PER_CHAR
            compiled["max_tokens"] = (grammar.max_chars * per_char + SLACK_TOKENS, "format")
    given = {name: value for name in _ASKABLE if (value := getattr(asked, name)) is not None}
    _fit_limits(compiled, given, max_context)
    for name, value in given.items():
        if name in compiled and compiled[name][0] != value:
            instead_of, knob = compiled[name]
            draft.overrides.append({"parameter": name, "value": value, "instead_of": instead_of, "knob": knob})
    return replace(_OFF, **{name: value for name, (value, _) in compiled.items()} | given)


_ASKABLE = tuple(each.name for each in fields(CallerSampling))


def _fit_limits(compiled: dict[str, tuple[float | int, str]], given: Mapping[str, Any], max_context: int) -> None:
    """Fit the knobs' min_tokens and max_tokens to the context and to what the caller set of the two."""
    if "max_tokens" in compiled:
        limit, knob = compiled["max_tokens"]
        limit = max(limit, given.get("min_tokens", 0) + SLACK_TOKENS)
        compiled["max_tokens"] = (max(1, min(limit, max_context)), knob)
    if "min_tokens" in compiled:
        limit = given.get("max_tokens", compiled["max_tokens"][0])
        # The knob's own share of the limit, so that a lowered limit still leaves room to end by itself.
        least, knob = compiled["min_tokens"]
        compiled["min_tokens"] = (min(least, int(limit * MIN_SHARE / MAX_SHARE)), knob)


def _is_latin(catalogue: Catalogue, language: str, prompt: str) -> bool:
    """Whether the answer is expected in Latin script: as its language says, else as the prompt is written."""
    if language != "auto":
        return bool(catalogue.ls["language"].values[language].latin)
    sample = prompt[:SCRIPT_SAMPLE_CHARS]
    if sample.isascii():
        return True
    letters = [letter for letter in sample if letter.isalpha()]
    # Latin ends at U+024F; Latin Extended Additional (Vietnamese) is U+1E00 to U+1EFF.
    others = sum(1 for letter in letters if letter > "\u024f" and not "\u1e00" <= letter <= "\u1eff")
    return 2 * others <= len(letters)


def _direct(
    messages: tuple[Message, ...], last_user: int, sources: tuple[Source, ...], directive: str | None
) -> tuple[Message, ...]:
    """The conversation with the sources and the directive at the end of one turn."""
    listed = "\n".join(["Sources:", *(f"[{source.id}] {source.text}" for source in sources)]) if sources else None
    additions = [part for part in (listed, directive) if part]
    if not additions:
        return messages
    turn = messages[last_user]
    directed = replace(turn, content="\n\n".join([turn.content, *additions]))
    return (*messages[:last_user], directed, *messages[last_user + 1 :])


def _differences(sampling: Sampling) -> dict[str, Any]:
    """The parameters that differ from the engine's defaults, JSON-ready."""
    different = {name: value for name, value in asdict(sampling).items() if value != getattr(_OFF, name)}
    if sampling.logit_bias:
        different["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    for name in ("stop", "stop_token_ids"):
        if name in different:
            different[name] = list(different[name])
    return different
