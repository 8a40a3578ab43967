"""The regression under the learned judge: the rows' weights, the fit's optimum, the AUC."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.regression import auc_of, fit_logistic, limit_weights


@given(st.lists(st.integers(0, 30), min_size=1, max_size=120))
def test_no_rater_has_more_than_the_share_of_the_weight(raters):
    weights = limit_weights([str(rater) for rater in raters], 0.05)
    share = max(0.05, 2 / len(set(raters)))
    assert weights.mean() == pytest.approx(1)
    for rater in set(raters):
        assert weights[[each == rater for each in raters]].sum() <= share * len(raters) + 1e-6


def test_the_weights_are_where_the_penalised_likelihood_is_flat():
    rng = np.random.default_rng(4)
    columns = np.column_stack([np.ones(50), rng.normal(size=(50, 3))])
    labels, weights = rng.integers(0, 2, (7, 50)).astype(float), rng.random(50) + 0.5
    beta = fit_logistic(columns, labels, weights, 3.0)
    slope = (weights * (labels - 1 / (1 + np.exp(-beta @ columns.T)))) @ columns - np.array([1e-2, 3, 3, 3]) * beta
    assert np.abs(slope).max() < 1e-5


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 3)), min_size=2, max_size=30),
)
def test_the_auc_counts_pairs(rows):
    scores, liked, weights = (np.array(column) for column in zip(*rows, strict=True))
    won = total = 0.0
    for score, up, weight in rows:
        for other, down, against in rows:
            if up and not down:
                total += weight * against
                won += weight * against * (1.0 if score > other else 0.5 if score == other else 0.0)
    assert auc_of(scores.astype(float), liked, weights.astype(float)) == pytest.approx(won / total if total else 0.5)
