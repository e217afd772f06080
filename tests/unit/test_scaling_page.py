# SPDX-License-Identifier: Apache-2.0
"""The page's table is what the model says of the committed inputs, and what a page without a place for it gets."""

from __future__ import annotations

import pytest

from bench import scaling


def test_the_page_shows_what_the_model_says() -> None:
    text = scaling.PAGE.read_text()
    assert scaling.page(text) == text, "python -m bench.scaling write"
    assert text.count("\n| 64 |") == 1


def test_a_page_without_a_place() -> None:
    with pytest.raises(ValueError, match="no place"):
        scaling.page("# Benchmarks\n")
    with pytest.raises(ValueError, match="no place"):
        scaling.page(f"{scaling.BEGIN}\n")


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["wirte"]) == 2
    assert "usage" in capsys.readouterr().out
