"""The features of an answer: finite for every text, and each sees what it is named for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.answer_features import FEATURES, answer_features


@given(st.text(max_size=300), st.text(max_size=100))
def test_every_text_has_finite_features(answer, prompt):
    features = answer_features(answer, prompt)
    assert len(features) == len(FEATURES)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("feature", "has", "lacks"),
    [
        ("ends_question", "So it is. Is it?", "Is it? So it is."),
        ("ends_question", 'He asks: "**Is it?**"', "It is"),
        ("ends_stop", "So it is.", "So it is"),
        ("ends_exclamation", "So it is!", "So!  it is."),
        ("ends_colon", "As follows:", "As: follows."),
        ("ends_emoji", "So it is 🙂", "So 🙂 it is."),
        ("ends_open", "So it", "So it."),
        ("questions", "Is it? Is it not?", "It is."),
        ("bullets", "- one\n- two", "one - two"),
        ("steps", "1. one\n2. two", "1 one 2 two"),
        ("headings", "# Title\ntext", "text # Title"),
        ("bold", "a **b** c", "a * b * c"),
        ("code", "```\nx\n```", "x"),
        ("first_person", "I think we do", "They think so"),
        ("second_person", "You do your best", "They do their best"),
        ("sorry", "I'm sorry, I can't help", "Here is help"),
        ("hedges", "Perhaps it might", "It does"),
        ("repetition", "so it is so it is so it is", "so it is as they say here"),
        ("prompt_covered", "The red river", "A boat"),
    ],
)
def test_a_feature_sees_what_it_is_named_for(feature, has, lacks):
    place = list(FEATURES).index(feature)
    assert answer_features(has, "red river")[place] > answer_features(lacks, "red river")[place]
