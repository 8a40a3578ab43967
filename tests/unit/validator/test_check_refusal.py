"""The refusal check: answers that only refuse or say nothing, and short answers that say something."""

import pytest

from deployments.validator.checks import refusal
from deployments.validator.thresholds import Thresholds
from graph.contracts import CheckContext

CONTEXT = CheckContext(prompt="How do I repot an old cactus?")

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "**I cannot assist with this request.**",
    "I'm unable to help.",
    "I won't be able to answer this.",
    "I apologize, but I cannot fulfill this request.",
    "As an AI language model, I cannot provide medical advice.",
    "Sorry, I can't answer that question. Please ask something else.",
    "I cannot help you with that, but feel free to ask me something else.",
    "Cacti have spines. For safety reasons I won't give you any instructions.",
    "That is against my guidelines.",
    "I'm not comfortable sharing any advice on plants. Is there anything else?",
    "I must respectfully decline.",
    "I don't have access to that.",
    "We can't comment on that.",
]
EMPTY = [
    "That is a very good question!",
    "I'd be happy to help! Let me know if you have any questions.",
    "It depends.",
    "Thank you for reaching out! Your question is important. Feel free to ask if you need anything.",
    "How can I help you today?",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_noted(text: str) -> None:
    (finding,) = refusal.check(text, CONTEXT)
    assert (finding.severity, finding.message) == ("note", "the whole answer is a refusal")


@pytest.mark.parametrize("text", EMPTY)
def test_an_empty_phrase_is_noted(text: str) -> None:
    (finding,) = refusal.check(text, CONTEXT)
    assert (finding.severity, finding.message) == ("note", "the whole answer is an empty phrase")


PASSED = [
    "",
    "No.",
    "No, I can't see your screen.",
    "We can't give refunds on opened bags.",
    "I'm afraid we can't offer a discount above ten percent.",
    "Unfortunately we can't come on Saturday, but thank you for the invitation.",
    "Thank you for your invitation. Sadly I can't make it on Saturday. Have a lovely evening!",
    "I cannot give you an exact date; the parcel is on its way and usually takes three days.",
    "I can't help you choose, but the red one lasts longer and costs less.",
    "I can't help laughing when I think of it.",
    "I can't recommend a book highly enough that taught me to read.",
    '"I can\'t help you," said the wolf, and closed the door.',
    "My doctor could not give an answer.",
    "He couldn't answer the question and went home.",
    "I have to pass the exam in June.",
    "I don't have enough eggs.",
    "It depends on the weather.",
    "That's up to you: red goes well with oak, blue with pine.",
    "Everyone has the right to vote from the age of eighteen.",
    "You should consult a doctor if the fever lasts more than three days.",
    "There are many ways to cook rice, such as steaming, boiling and frying.",
    "Feel free to use butter instead.",
    "Hello! How can I help you today?",
    "I'm just an AI assistant, made to answer questions.",
    "I can't advise on doses. Take the packet to a pharmacist, who will weigh it for you.",
    "Sorry, we are closed on Mondays.",
    "Es tut mir leid, dabei kann ich nicht helfen.",
]


@pytest.mark.parametrize("text", PASSED)
def test_an_answer_passes(text: str) -> None:
    assert refusal.check(text, CONTEXT) == ()


def test_a_greeting_may_be_answered_by_an_offer() -> None:
    assert refusal.check("How can I help you today?", CheckContext(prompt="Hi there!")) == ()


def test_a_long_answer_passes() -> None:
    text = "I can't help with that. " * 12
    assert refusal.check(text, CONTEXT) == ()
    assert refusal.check(text, CONTEXT, Thresholds(refusal_max_words=72)) != ()


def test_json_passes() -> None:
    assert refusal.check("I can't help with that.", CheckContext(answer_format="json")) == ()
