"""The README's table of counters is the one in the code."""

from __future__ import annotations

from pathlib import Path

from pipelines.counters import as_markdown

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_has_the_table_of_counters() -> None:
    assert as_markdown() in README.read_text(encoding="utf-8"), (
        "put what `python -c 'from pipelines.counters import as_markdown; print(as_markdown())'` "
        "prints into the README"
    )
