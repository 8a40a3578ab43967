"""What of a row's texts reaches the log."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import running

from deployments.feedback.directory import read_log
from deployments.feedback.events import generation_row
from deployments.feedback.schema import is_intact, to_row
from deployments.ingress.privacy import protect, protect_text
from tests.cluster import chat

MAIL = "john.doe@gmail.com"
KEY = "AKIA" + "IOSFODNN7EXAMPLQ"
ROW = generation_row(
    generation_id="gen-1",
    tenant="acme",
    model="m",
    prompt=[{"role": "system", "content": f"Use:\n{KEY}."}, {"role": "user", "content": f"I am {MAIL}. Why?"}],
    answer=f"Dear {MAIL}, so.",
    outcome="pass",
    now_us=7,
    settings={"depth": 50},
    prompt_hash="c0ffee",
)


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_kept_texts_are_the_row_itself() -> None:
    assert protect(ROW, "keep") is ROW


def test_dropped_texts_leave_ids_settings_and_hashes() -> None:
    row = protect(ROW, "drop")
    assert (row["prompt"], row["answer"], row["text"]) == (None, None, None)
    untouched = set(ROW) - {"prompt", "answer", "text", "content_hash", "row_crc"}
    assert {name: row[name] for name in untouched} == {name: ROW[name] for name in untouched}
    assert is_intact(row)


def test_redacted_texts_have_neither_personal_values_nor_secrets_whoever_sent_them() -> None:
    row = protect(ROW, "redact")
    assert row["answer"] == "Dear [redacted e-mail], so."
    assert json.loads(row["prompt"]) == [
        {"role": "system", "content": "Use:\n[redacted AWS access key]."},
        {"role": "user", "content": "I am [redacted e-mail]. Why?"},
    ]
    assert is_intact(row)


def test_tags_are_texts_too() -> None:
    row = to_row({**ROW, "tags": {"comment": f"ask {MAIL}", "page": "home"}})
    redacted = protect(row, "redact")
    assert json.loads(redacted["tags"]) == {"comment": "ask [redacted e-mail]", "page": "home"}
    assert protect(row, "drop")["tags"] is None
    assert is_intact(redacted)


@pytest.mark.parametrize("texts", ["redact", "drop"])
async def test_what_a_langfuse_score_says_besides_its_value_is_protected(texts: Any, tmp_path: Path) -> None:
    async with running(tmp_path, texts=texts) as (client, service):
        said = {"traceId": await service.answered(), "name": "output", "value": "better", "comment": f"mail {MAIL}"}
        response = await client.post("/api/public/scores", json={**said, "metadata": {"who": MAIL}})
    assert response.status_code == 200
    assert MAIL.encode() not in bytes_below(tmp_path)


def test_a_text_without_anything_personal_stays_as_it_is() -> None:
    text = 'A "quoted" text – ünïcode, \\n, 4111 and all.'
    assert protect_text(text, "redact") == text
    clean = generation_row(
        generation_id="g",
        tenant="t",
        model="m",
        prompt=[{"role": "user", "content": text}],
        answer=text,
        outcome="pass",
        now_us=1,
    )
    assert protect(clean, "redact") == clean


@pytest.mark.parametrize("texts", ["redact", "drop"])
async def test_what_a_chat_sends_and_gets_is_protected_before_the_log(texts: Any, tmp_path: Path) -> None:
    script = {"first_token_s": 0, "token_s": 0, "script": {"who": f"You are {MAIL}, as you said yourself."}}
    async with running(tmp_path, simulated=script, texts=texts) as (client, _):
        answer = (await client.post("/v1/chat/completions", json=chat(f"who am I, {MAIL}?"))).json()
    raw = bytes_below(tmp_path)
    (row,) = read_log(tmp_path)
    # The caller may be told what he sent; the log need not keep it.
    assert MAIL in answer["choices"][0]["message"]["content"]
    assert b"generation" in raw
    assert MAIL.encode() not in raw
    assert row["settings"]
    assert (row["answer"] is None) == (texts == "drop")
