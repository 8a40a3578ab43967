"""Whether a regular expression from a stranger is safe to match and to compile into a grammar.

Python's ``re``, which validates answers, backtracks: repetitions inside repetitions, alternatives inside them, or
many in a row can take exponential time
(https://owasp.org/www-community/attacks/Regular_expression_Denial_of_Service_-_ReDoS). The rule here is stricter
than needed (it refuses ``[a-z]+(-[a-z]+)*``, which is harmless): telling the two apart takes an analysis that a
guard should not rest on.
"""

import re

MAX_PATTERN_CHARS = 128
# xgrammar 0.2.8 fails with an internal error on {1,200} inside a JSON string, and takes {1,128}.
MAX_REPEATS = 128
# Exact repetitions inside each other, which a grammar writes out.
MAX_NESTED_REPEATS = 512
# Repetitions around a repetition: four octets of an address, and no more ways to split a text than that gives.
MAX_OUTER_REPEATS = 4
# Each unbounded one may multiply the time by the text's length, each optional one by two.
MAX_LONG, LONG = 4, 16
MAX_VARIABLE = 12

_QUANTIFIER = re.compile(r"([*+?])|\{(?=[\d,])(\d{0,9})(,?)(\d{0,9})\}")
_UNBOUNDED = 10**9


def find_pattern_fault(pattern: str) -> str | None:
    """Say why a pattern is refused, or return None where it is accepted. One pass over at most 128 characters.

    Refused: more than 128 characters; a repetition (above 4, or without a bound) of a group that holds one or
    alternatives; more than 4 repetitions above 16 or 12 of variable length; a bound above 128; look-around, back
    references and other extensions, which no grammar has; what Python's ``re`` does not take.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a pattern may have at most {MAX_PATTERN_CHARS} characters, this has {len(pattern)}."
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"it is not a regular expression: {error}."
    # How many repetitions of variable length (or alternatives) nest in each open group so far.
    groups = [0]
    # The most that repetitions inside each open group multiply to.
    sizes = [1]
    size = 1
    closed = long = variable = at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            if pattern[at + 1] in "123456789":
                return "back references are not supported."
            closed, size, at = 0, 1, at + 2
        elif character == "[":
            closed, size, at = 0, 1, _end_of_class(pattern, at)
        elif character == "(":
            if pattern.startswith("(?", at) and not pattern.startswith("(?:", at):
                return "look-around, flags and named groups are not supported; plain groups and (?:...) are."
            groups.append(0)
            sizes.append(1)
            closed, size, at = 0, 1, at + (3 if pattern.startswith("(?:", at) else 1)
        elif character == ")":
            closed, size = groups.pop(), sizes.pop()
            groups[-1], sizes[-1] = max(groups[-1], closed), max(sizes[-1], size)
            at += 1
        elif match := _QUANTIFIER.match(pattern, at):
            least, most = _bounds(match)
            if least > MAX_REPEATS or MAX_REPEATS < most < _UNBOUNDED:
                return f"a repetition may be at most {MAX_REPEATS}, or without a bound."
            if most > 1 and closed and (most > MAX_OUTER_REPEATS or closed > 1):
                return "a repetition of a group that holds a repetition or alternatives may take for ever."
            nested = closed + 1 if most > 1 and closed else max(closed, least != most)
            groups[-1] = max(groups[-1], nested)
            sizes[-1] = max(sizes[-1], size := size * max(1, least if most == _UNBOUNDED else most))
            if size > MAX_NESTED_REPEATS:
                return f"repetitions inside each other come to more than {MAX_NESTED_REPEATS}."
            long, variable = long + (most > LONG), variable + (least != most)
            closed, size, at = 0, 1, match.end()
        else:
            groups[-1] = max(groups[-1], character == "|")
            closed, size, at = 0, 1, at + 1
    if long > MAX_LONG or variable > MAX_VARIABLE:
        return f"it has too many repetitions: at most {MAX_LONG} above {LONG}, and {MAX_VARIABLE} of variable length."
    return None


def _bounds(match: re.Match[str]) -> tuple[int, int]:
    sign, least, comma, most = match.groups()
    if sign:
        return (1 if sign == "+" else 0), (1 if sign == "?" else _UNBOUNDED)
    fewest = int(least or 0)
    return fewest, int(most) if most else _UNBOUNDED if comma else fewest


def _end_of_class(pattern: str, start: int) -> int:
    at = start + 1
    at += pattern.startswith("^", at)
    at += pattern.startswith("]", at)  # a bracket that comes first stands for itself
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1
