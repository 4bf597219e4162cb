from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.table import Table
from rich.text import Text

from market_pipeline.cli.output import console, errors_console
from market_pipeline.errors import LakeFileError, SettingsError, error_text
from market_pipeline.shown import shown, shown_lines, shown_logger, shown_names

UNSEEN = "\u115f\u1160\u2800\u3164\uffa0\ufe0f\U000e0101\u034f\u0301\u0489"
FROM_THE_RIGHT = "\u05d0\u0627\u0661"
HOSTILE = f"\x1b]8;;http://x\x07[red]<b>\x9b2J\x00\u202e\u2028\n\r\udcff\u200b\ufeff{UNSEEN}{FROM_THE_RIGHT}"


def acting(text: str) -> list[str]:
    """The characters of a text that act on what shows it, but for line breaks."""
    others = UNSEEN + FROM_THE_RIGHT
    return [each for each in text if (not each.isprintable() or each in others) and each != "\n"]


class TestShown:
    @pytest.mark.parametrize("char", [*HOSTILE[0], *map(chr, (*range(32), *range(127, 161)))])
    def test_no_control_character(self, char):
        """Each of both blocks of control characters is written out."""
        assert f"a{char.encode('unicode_escape').decode()}b" == shown(f"a{char}b")

    @pytest.mark.parametrize(
        ("char", "told"),
        [
            ("\u202e", "\\u202e"),
            ("\u2066", "\\u2066"),
            ("\u2028", "\\u2028"),
            ("\udcff", "\\udcff"),
            ("\U000e0001", "\\U000e0001"),
        ],
    )
    def test_no_mark_or_half_character(self, char, told):
        """Marks of direction, other line breaks and halves of surrogate pairs are written out."""
        assert told == shown(char)

    @pytest.mark.parametrize("char", UNSEEN + FROM_THE_RIGHT)
    def test_what_is_not_seen_or_turns_its_neighbours(self, char):
        """Fillers, marks that are drawn over a neighbour, and letters from the right."""
        assert char.encode("unicode_escape").decode() == shown(char) == shown_lines(char)

    def test_letters_stay(self):
        """What can be printed stays as it is, also of other scripts."""
        assert "Ünï 価格 Жγ हक … → [x]" == shown("Ünï 価格 Жγ हक … → [x]")

    def test_a_long_text_is_cut(self):
        """Of a long text the beginning is shown, and how long it is."""
        assert f"{'a' * 2_000}… (3,000 characters)" == shown("a" * 3_000)

    def test_lines_stay_lines(self):
        """A text of ours keeps its lines, and is not cut."""
        assert "a\n\\x1b" + "b" * 3_000 == shown_lines("a\n\x1b" + "b" * 3_000)

    def test_names_stay_apart_from_words(self):
        """A name that could be read as the end of a list stands in quotes, and many are counted."""
        assert "size, 'a, b', 'it\\'s', '\\x1b'" == shown_names(["size", "a, b", "it's", "\x1b"])
        assert shown_names(str(n) for n in range(150)).endswith("98, 99, 50 more")
        assert 120 > len(shown_names(["a" * 10_000]))


class TestErrors:
    def test_text_is_fit_and_parts_are_as_they_came(self):
        """Every part of the text is written out; the attributes can still be worked with."""
        error = LakeFileError("x", next_step="y.", file=HOSTILE, column=HOSTILE, found=HOSTILE)

        assert [] == acting(str(error))
        assert "\n" not in str(error)
        assert HOSTILE == error.file == error.column

    def test_a_setting_cannot_add_a_line(self):
        """The problems of settings are one a line, whatever they quote."""
        assert 2 == len(str(SettingsError([f"x: {HOSTILE}"])).splitlines())

    def test_an_error_of_a_library(self):
        """The message of a library that quotes a name is written out too."""
        assert [] == acting(error_text(ValueError(HOSTILE)))


class TestPlacesOfOutput:
    @pytest.fixture(params=[console, errors_console])
    def printed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
        """Prints on a console, as a terminal or into a file, and returns what came out."""

        def prints(*what: object, **options) -> str:
            out = io.StringIO()
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stderr", out)
            request.param().print(*what, **options)
            return out.getvalue()

        return prints

    @pytest.mark.parametrize("soft_wrap", [False, True])
    def test_consoles(self, printed, soft_wrap):
        """Neither text nor a ready-made line nor a cell brings markup or a control character."""
        table = Table(HOSTILE, title=HOSTILE)
        table.add_row(HOSTILE)
        text = printed(HOSTILE, Text(HOSTILE), table, soft_wrap=soft_wrap)

        assert [] == acting(text)
        assert "[red]" in text

    def test_brackets_behind_a_backslash(self, printed):
        """A backslash before a bracket does not make markup of it."""
        assert "\\[red]x[/] :smile:\n" == printed("\\[red]x[/] :smile:")

    def test_logs(self, caplog: pytest.LogCaptureFixture):
        """A record holds neither a hostile name nor a library's traceback that quotes one."""
        logger = shown_logger("market_pipeline.of_a_test")
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logger.exception("%s could not be read", HOSTILE)

        assert [] == acting(logging.Formatter().format(caplog.records[0]))
