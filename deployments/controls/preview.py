"""What a setting would do, without generating: the body of ``POST /v1/controls/preview``."""

from typing import Any

from deployments.controls.compiler import CompiledControls


def preview(compiled: CompiledControls) -> dict[str, Any]:
    """Show what the controls of a request compile into, JSON-ready.

    Returns:
        The receipt, with ``grammar`` as the kind of form, None for
        free text, and ``expected_words``: None until the model is calibrated, since a promise needs a measurement.
    """
    return {
        **compiled.receipt,
        "grammar": compiled.grammar_kind,
        "language": compiled.language,
        "expected_words": None,
    }
