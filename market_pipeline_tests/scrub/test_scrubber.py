from __future__ import annotations

import json
import secrets
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.scrub import scrubber
from market_pipeline.scrub.forms import plain
from market_pipeline.scrub.guessed import MARK
from market_pipeline.scrub.scrubber import (
    WITHHELD,
    known_secrets,
    learn,
    scrubbed,
    scrubbed_json,
)
from market_pipeline_tests.scrub.written import ways

# Around a secret: nothing, a line, quotes, a path, an assignment without the name of one.
PLACES = ("{}", "x\n{} y", 'a"{}"b', "/{}/", "k={}", "({})", "n{}")


def random_secret(signs: str = "+/=!", length: int = 40) -> str:
    letters = string.ascii_letters + string.digits + signs * 2
    return "A1" + "".join(secrets.choice(letters) for _ in range(length - 3)) + "z"


class TestKnown:
    @pytest.mark.parametrize(
        ("signs", "length"),
        [("+/=!", 40), ("-_.~", 40), ("", 6), ("\\\"'&<>%", 40), (" ,\u00dc", 50)],
    )
    def test_no_way_of_writing_is_let_out(self, signs, length):
        """However a secret is written, wherever it stands in a text or in JSON, it is taken out."""
        secret = random_secret(signs, length)
        learn(secret)
        out = {}
        for name, written in ways(secret):
            for place in PLACES:
                text = place.format(written)
                record = json.dumps({"text": text, "list": [json.dumps([text])]})
                clean, clean_record = scrubbed(text), scrubbed_json(record)
                if MARK not in clean or written in clean or clean == WITHHELD:
                    out[name, place] = clean
                if written in json.loads(clean_record)["text"] or secret in clean_record:
                    out[name, place, "JSON"] = clean_record
        assert {} == out

    @settings(max_examples=200)
    @given(
        st.lists(st.text("ab\\-_%41 ", min_size=6, max_size=40), min_size=1, max_size=30),
        st.data(),
    )
    def test_many_are_found_as_one_by_one(self, texts, data):
        """Looked up all at once, those are held that are found by looking for each form of each."""
        scrubber._known = scrubber._Known()
        learn(*texts, *(f"{number:03}-no-text-holds-this" for number in range(30)))
        known = scrubber._known.by_secret
        parts = st.sampled_from(texts) | st.sampled_from(["a", "%41", "\\", "n"])
        before, secret, after = (data.draw(parts) for _ in range(3))
        written = data.draw(st.sampled_from([secret, *(text for _, text in ways(secret))]))
        text = before + written[data.draw(st.integers(0, 1)) :] + after
        unescaped = plain(text)
        assert scrubber._held(text) == [
            each for each, of_it in known.items() if scrubber._is_held(each, of_it, text, unescaped)
        ]

    @settings(max_examples=20)  # each compiles patterns
    @given(st.text(min_size=10, max_size=100), st.text(max_size=20))
    def test_any_text_may_be_one(self, secret, around):
        """A secret of any characters, however long, is nowhere in what is left."""
        scrubber._known = scrubber._Known()
        learn(secret)
        clean = scrubbed(f"{around}{secret}{around}")
        in_json = json.loads(scrubbed_json(json.dumps({"a": f"{around}{secret}{around}"})))
        kept = [each for each in known_secrets() if each in clean or each in in_json.get("a", "")]
        assert [] == kept

    def test_each_line_of_a_long_one(self):
        """A secret of many lines, such as a key in PEM, is known by each of them."""
        lines = [random_secret(length=64) for _ in range(10)]
        learn("\n".join(lines))
        assert [MARK] * 10 == [scrubbed(line) for line in lines]

    @pytest.mark.parametrize("at", [0, 8_150, 12_270])
    def test_in_a_long_text(self, at):
        """Of a text of many windows it is taken out wherever it stands, and nothing else is."""
        secret = random_secret(length=64)
        learn(secret)
        around = "a word & one more % " * 1_200
        for name, written in ways(secret):
            cut = around[:at], around[at:]
            before, behind = scrubbed(f"{cut[0]}|{written}|{cut[1]}").split(MARK)
            is_whole = before.startswith(f"{cut[0]}|") and behind.endswith(f"|{cut[1]}")
            assert is_whole and len(before) + len(behind) < len(around) + 30, name

    def test_longer_than_windows_overlap(self):
        """A secret whose every sign is escaped a hundred times over is taken out, too."""
        secret = random_secret(signs="", length=64)
        learn(secret)
        written = "".join("\\" * 100 + f"x{ord(each):02x}" for each in secret)
        assert f"a{MARK}b" == scrubbed(f"a{written}b" + "c" * 20_000).rstrip("c")

    def test_half_a_pair_of_utf16(self):
        """Also a secret that no encoding has, as JSON may give one, is known and ends nothing."""
        learn("abc\ud800defg123")
        assert f"a {MARK}" == scrubbed("a abc\ud800defg123")

    def test_of_few_characters(self):
        """What stands in many texts by chance is not taken for a secret."""
        learn("data", "dagster", "a1b2c", "", None)
        assert () == known_secrets()

    @pytest.mark.parametrize("key", ["__set__", "__mapping_items__", "__mine"])
    def test_below_any_key(self, key):
        """Only what names a class is left alone: sets and mappings have keys of their own too."""
        secret = random_secret()
        learn(secret)
        clean = json.loads(scrubbed_json(json.dumps({"a": {key: [[1, secret]], "n": 1}})))
        assert {"a": {key: [[1, MARK]], "n": 1}} == clean

    def test_other_texts_stay(self):
        """A text without a secret is the same, to the byte, also in JSON."""
        learn(random_secret())
        texts = [
            "2024-08-01 BINANCE:BTC-USDT 3 files, 10 % of 1,000 rows; see docs/checks/gap.md",
            '{"__class__": "EventLogEntry",  "message": "\\u2026 100 %\\n", "step_key": "a_b"}',
            "PIPELINE_MASTER_KEY: expected 32 bytes in base64. Correct it",
            "master_key, master_key_file: more than one is set. Keep one.",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment or .env",
            "Set PIPELINE_SECRETS__PROVIDER=sealed, or PIPELINE_SECRETS__PATH='kv/lake'",
            "Basic information of tokens, and 12 secrets: none",
            "PWD=/home/me/lake2 OLDPWD=/srv",
            "GET /docs?page=2&code=200 and ?code=404",
        ]
        assert texts == [scrubbed(text) for text in texts]
        assert texts == [scrubbed_json(text) for text in texts]


class TestGuessed:
    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("password=hunter2", "password=[secret]"),
            ("DB_PASSWORD = 'hunter 2' x", "DB_PASSWORD = '[secret]' x"),
            ('{"secret_key": "abc"}', '{"secret_key": "[secret]"}'),
            ("aws_secret_access_key = abc123DEF456", "aws_secret_access_key = [secret]"),
            ("Authorization: Bearer abc.def", "Authorization: [secret]"),
            ("{'Authorization': 'AWS4 Credential=A, b'}", "{'Authorization': '[secret]'}"),
            ("X-Vault-Token: abcdef", "X-Vault-Token: [secret]"),
            ("https://user:pw@host/x?token=a&b=1", "https://[secret]@host/x?token=[secret]&b=1"),
            ("https://h/?X-Amz-Signature=ab&c=d", "https://h/?X-Amz-Signature=[secret]&c=d"),
            ("UID=sa;PWD=/homer1 PWD=/x9", "UID=sa;PWD=[secret] PWD=[secret]"),
            ("https://h/?code=200123 ?code=2004", "https://h/?code=[secret] ?code=[secret]"),
            (f"used AKIA{'Q7' * 8} here", "used [secret] here"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "[secret]\n"),
        ],
    )
    def test_by_name_and_form(self, text, clean):
        """What stands behind the name of a secret is taken out unknown, once and for all."""
        assert (clean, clean) == (scrubbed(text), scrubbed(clean))

    @pytest.mark.parametrize(
        "text",
        ["\\u" + "\\" * 10**6, "eyJhbGc_" * 10**5, "token=" + "\\" * 10**6 + "'" + "\\" * 10**6],
        ids=["backslashes", "tokens", "quotes"],
    )
    def test_near_misses(self, text):
        """A megabyte of what nearly is a secret, or escaped, takes no square of its length."""
        learn(secret := random_secret())
        assert scrubbed(f"{text} {secret}") == f"{text} {MARK}"

    def test_below_the_name_of_one(self):
        """In JSON everything below a secret's name is taken out, but the types of its parts."""
        config = {"db": {"password": {"__class__": "T", "text": "a", "n": [1, "b"]}, "port": "1"}}
        expected = {
            "db": {"password": {"__class__": "T", "text": MARK, "n": [1, MARK]}, "port": "1"}
        }
        assert expected == json.loads(scrubbed_json(json.dumps(config)))

    def test_not_where_it_is_read_back(self):
        """What is only guessed stays in the config of a run, which Dagster reads again."""
        text = json.dumps({"password": "needed by another project"})
        assert text == scrubbed_json(text, guess=False)
