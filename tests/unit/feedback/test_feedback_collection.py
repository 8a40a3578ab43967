from deployments.feedback.collection import CollectionRate


def generation(number):
    return {"kind": "generation", "generation_id": str(number)}


def thumb(number, kind="thumb"):
    return {"kind": kind, "generation_id": str(number)}


def rate_of(*rows, window=100):
    collection = CollectionRate(window)
    for row in rows:
        collection.add(row)
    return collection.rate


def test_without_an_answer_there_is_no_rate():
    assert rate_of() is None
    assert rate_of(thumb(1)) is None


def test_an_answer_counts_once_however_often_it_is_spoken_of():
    assert rate_of(generation(1), generation(2), thumb(1), thumb(1, "comment"), generation(1)) == 0.5


def test_taking_feedback_back_is_none():
    assert rate_of(generation(1), thumb(1, "retract")) == 0.0


def test_only_the_recent_answers_count():
    rows = [generation(1), thumb(1), *(generation(number) for number in (2, 3)), thumb(1)]
    assert rate_of(*rows, window=2) == 0.0
    assert rate_of(*rows, thumb(3), window=2) == 0.5
