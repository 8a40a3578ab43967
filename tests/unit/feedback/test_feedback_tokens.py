import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.feedback.tokens import (
    MAX_TOKEN_CHARS,
    SigningKey,
    TokenClaims,
    hash_rater,
    load_or_create_key,
    sign,
    verify,
)
from graph.errors import ConfigurationError, InvalidRequest

KEY = SigningKey("k1", b"s" * 32)
KEYS = {"k1": KEY.secret}
CLAIMS = TokenClaims("gen-1", "acme", "model", "adapter", None, "abc", expires_at=1000)


def refusal_of(token, keys=KEYS, now_s=0.0):
    with pytest.raises(InvalidRequest) as refused:
        verify(token, keys, now_s)
    assert refused.value.param == "feedback_token"
    return refused.value.code


def test_a_token_says_what_was_signed_until_it_expires():
    token = sign(CLAIMS, KEY)
    assert verify(token, KEYS, 999.9) == CLAIMS
    assert refusal_of(token, now_s=1000) == "expired_feedback_token"


def test_a_token_is_safe_in_a_url_and_says_its_version():
    token = sign(replace(CLAIMS, model="?>ÿ" * 9), KEY)
    assert token.startswith("v1.")
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_tokens_of_other_keys_are_refused_and_keys_rotate_by_id():
    new = SigningKey("k2", b"n" * 32)
    assert refusal_of(sign(CLAIMS, new)) == "invalid_feedback_token"
    assert refusal_of(sign(CLAIMS, SigningKey("k1", b"other" * 7))) == "invalid_feedback_token"
    for key in (KEY, new):
        assert verify(sign(CLAIMS, key), {**KEYS, "k2": new.secret}, 0) == CLAIMS


def test_a_change_of_any_character_is_refused_so_a_token_has_one_spelling():
    token = sign(CLAIMS, KEY)
    for at, char in enumerate(token):
        for other in {"A", "B", "_", ".", "=", "+", "\n"} - {char}:
            assert refusal_of(token[:at] + other + token[at + 1 :]) == "invalid_feedback_token"
    for padded in (token + "=", token + "\n", " " + token, token + ".", token[:-1]):
        assert refusal_of(padded) == "invalid_feedback_token"


def test_claims_cannot_be_exchanged_under_a_good_signature():
    payload = json.dumps(["k1", "gen-2", "acme", "model", "adapter", None, "abc", 10**9]).encode()
    signature = sign(CLAIMS, KEY).rpartition(".")[2]
    forged = f"v1.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"
    assert refusal_of(forged) == "invalid_feedback_token"


def test_an_expired_forgery_is_called_invalid_not_expired():
    assert refusal_of(sign(CLAIMS, KEY)[:-1] + "!", now_s=5000) == "invalid_feedback_token"


def test_a_token_that_verify_would_refuse_for_its_length_is_never_signed():
    with pytest.raises(ValueError, match="2048"):
        sign(replace(CLAIMS, model="m" * MAX_TOKEN_CHARS), KEY)


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_garbage_raises_nothing_but_invalid_request(garbage):
    assert refusal_of(garbage) == "invalid_feedback_token"


@given(st.recursive(st.none() | st.text() | st.integers() | st.floats(), st.lists, max_leaves=9))
def test_any_json_in_place_of_the_payload_raises_nothing_but_invalid_request(value):
    payload = base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    assert refusal_of(f"v1.{payload}.AAAA") == "invalid_feedback_token"
    assert refusal_of(f"v1.{base64.urlsafe_b64encode(b'[' * 1400).decode()}.AAAA") == "invalid_feedback_token"


def test_a_rater_has_one_pseudonym_a_tenant_and_key_and_nothing_shows_through():
    mine = hash_rater("me@example.com", "acme", KEY)
    assert mine == hash_rater("me@example.com", "acme", KEY)
    assert len(mine) == 32
    assert set(mine) <= set("0123456789abcdef")
    others = {
        hash_rater("you@example.com", "acme", KEY),
        hash_rater("me@example.com", "umbra", KEY),
        hash_rater("me@example.com", "acme", SigningKey("k1", b"n" * 32)),
        hash_rater("eme@example.com", "acm", KEY),
    }
    assert len(others | {mine}) == 5
    assert len(hash_rater("\ud800", "acme", KEY)) == 32


def test_a_key_is_made_once_private_and_kept(tmp_path):
    path = tmp_path / "new" / "token.key"
    key = load_or_create_key(path)
    assert len(key.secret) == 32
    assert load_or_create_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["token.key"]
    assert "secret=..." in repr(key)


def test_all_who_race_to_make_the_key_get_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for round_number in range(20):
            path = tmp_path / f"key-{round_number}"
            assert len(set(pool.map(load_or_create_key, [path] * 8))) == 1
    assert len(os.listdir(tmp_path)) == 20


def test_the_loser_of_a_race_takes_the_winners_key(tmp_path, monkeypatch):
    path = tmp_path / "key"
    link = os.link

    def beaten(source, target):
        path.write_bytes(b"w" * 32)
        path.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    assert load_or_create_key(path).secret == b"w" * 32
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"x" * 33, 0o600), (b"x" * 32, 0o644)])
def test_a_key_file_that_is_not_right_stops_start_up(tmp_path, content, mode):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="key"):
        load_or_create_key(path)
