"""How the report's numbers are written, in the terminal and in HTML alike. Pure."""


def format_share(share: float | None, digits: int = 1) -> str:
    """``84.3%``, or a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def format_score(value: float | None) -> str:
    """``0.843``, or a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def format_count(n: int | None) -> str:
    """``12,345``, or a dash for None."""
    return "–" if n is None else f"{n:,}"


def shorten(text: str | None, limit: int = 24) -> str:
    """At most ``limit`` characters; ``(none)`` for what has no value."""
    if text is None:
        return "(none)"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_ms(value: float | None) -> str:
    """``740 ms``, ``1.67 s``, or a dash for None."""
    if value is None:
        return "–"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"
