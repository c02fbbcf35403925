"""What ``python -m website`` refuses before it does anything."""

from __future__ import annotations

import pytest

from website import __main__


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--version", "latest"], "'latest' is not a version"),
        (["--version", "../up"], "is not a version: write 0.1, or dev"),
        (["--pages", "build/pages"], "--pages needs --version"),
    ],
)
def test_a_version_without_a_proper_name_is_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(words)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
