"""Notes strong obscenities and slurs in the prose of an answer; what is fit to say is not for a word list to decide.

An own short list of English words without an innocent sense, matched as whole words. Left out for theirs are tit, cock,
ass, dick, pussy, bitch, shag, dyke, chink, coon and faggots, among others. The package alt-profanity-check pins
scikit-learn, and lists that match inside words know Scunthorpe and Cockermouth.
"""

import re
from itertools import islice

from deployments.validator.code_blocks import blank_code
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "WORDS", "check"]

NAME = "profanity"
SEVERITY: Severity = "note"

_LIST = (
    "fuck fucks fucked fucker fuckers fucking fuckwit fuckwits fuckhead motherfuck motherfucker motherfuckers "
    "motherfucking clusterfuck clusterfucks mindfuck shit shits shitty shithead shitheads bullshit horseshit "
    "chickenshit cunt cunts twat twats arsehole arseholes asshole assholes dickhead dickheads cocksucker "
    "cocksuckers wanker wankers slut sluts whore whores nigger niggers nigga niggas kike kikes spic spics gook "
    "gooks wetback wetbacks towelhead towelheads raghead ragheads faggot trannies"
)
WORDS = frozenset(_LIST.split())
_WORD = re.compile(r"(?<![\w@/.-])[a-z]{4,}(?![\w@/-])", re.IGNORECASE)
_CODE = re.compile(r"`[^`\n]{1,500}`|https?://\S+")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Notes the first such word.

    Returns:
        One note, or none. Words that the caller used, and those in code and addresses, are not noted.
    """
    strong = WORDS.intersection(fold(text))
    strong -= set(fold(context.prompt)) | set(fold(context.known_text)) if strong else set()
    if not strong:
        return ()
    prose = _CODE.sub(lambda code: " " * len(code.group()), blank_code(text))
    places = (match.span() for match in _WORD.finditer(prose) if match.group().casefold() in strong)
    return tuple(Finding(NAME, SEVERITY, "a strong obscenity or slur", span) for span in islice(places, 1))
