"""The structure check: steps and bullets where they were asked for."""

import pytest

from deployments.validator.checks import structure
from graph.contracts import AnswerFormat, CheckContext

CAUGHT: dict[str, tuple[AnswerFormat, str]] = {
    "prose for steps": ("steps", "Boil the water. Then add the pasta."),
    "prose for bullets": ("bullets", "You need water, pasta and salt."),
    "bullets for steps": ("steps", "- Boil the water\n- Add the pasta"),
    "steps for bullets": ("bullets", "1. Water\n2. Pasta"),
    "a gap in the steps": ("steps", "1. Boil the water\n2. Add salt\n4. Add the pasta"),
    "steps that begin late": ("steps", "3. Boil the water\n4. Add the pasta"),
    "steps backwards": ("steps", "1. Boil\n2. Add\n1. Stir\n3. Serve"),
    "mostly prose": ("bullets", "One line.\n\nTwo lines.\n\nThree lines.\n\n- a bullet"),
    "bullets in code only": ("bullets", "```\n- water\n- salt\n```"),
    "a number in prose": ("steps", "3.5 million people live there."),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_an_answer_without_its_list_is_found(name: str) -> None:
    answer_format, text = CAUGHT[name]
    (finding,) = structure.check(text, CheckContext(answer_format=answer_format))
    assert finding.severity == "soft"


PASSED: dict[str, tuple[AnswerFormat, str]] = {
    "steps": ("steps", "1. Boil the water.\n2. Add the pasta.\n3. Serve."),
    "steps with brackets": ("steps", "1) Boil\n2) Add"),
    "bold steps": ("steps", "**1.** Boil\n**2.** Add"),
    "steps by word": ("steps", "Step 1: Boil\nStep 2: Add"),
    "markdown's own numbering": ("steps", "1. Boil\n1. Add\n1. Serve"),
    "sections": ("steps", "## Sauce\n1. Chop\n2. Fry\n## Pasta\n1. Boil\n2. Serve"),
    "lead and closing line": ("steps", "Here is how:\n\n1. Boil\n2. Add\n\nEnjoy!"),
    "details under steps": ("steps", "1. Boil\n   - use salt\n   - use much water\n2. Add\n   Stir well.\n"),
    "code under steps": ("steps", "1. Run\n```sh\nmake\nmake test\nmake all\n```\n2. Read the log"),
    "one step": ("steps", "Just one thing to do:\n1. Restart it."),
    "bullets": ("bullets", "- water\n- pasta\n- salt"),
    "stars": ("bullets", "* water\n* pasta"),
    "signs": ("bullets", "• water\n• pasta"),
    "nested bullets": ("bullets", "- water\n    - cold\n    - clean\n- pasta"),
    "prose in markdown": ("markdown", "Boil the water. Then add the pasta."),
    "prose in plain text": ("plain", "Boil the water."),
    "nothing": ("steps", "  "),
}


@pytest.mark.parametrize("name", PASSED)
def test_an_answer_in_its_form_passes(name: str) -> None:
    answer_format, text = PASSED[name]
    assert structure.check(text, CheckContext(answer_format=answer_format)) == ()
