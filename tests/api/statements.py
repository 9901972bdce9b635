"""The statements of the API, and the map from each of them to its tests.

`text.txt` quotes the API text whole: every sentence, signature, parameter line and piece of code is a
statement with an id; headings start with `##`.  `additions.txt` has the same form, and says what the
text leaves open.  A test names what it holds with `@pytest.mark.statement("init-09", ...)`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
FILES = ("text.txt", "additions.txt")
HEAD = re.compile(r"\[([a-z]+(?:-[a-z]+)*-\d\d)\]")
FIRST_WORDS = 52  # characters of a statement that the map shows


def parse(text: str) -> dict[str, str]:
    """Statements by id, in the order of the text.  Raises ValueError for an id that stands there twice."""
    statements: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = HEAD.fullmatch(line)
        if head:
            if head[1] in statements:
                raise ValueError(f"The id {head[1]} stands twice in the statements.")
            lines = statements[head[1]] = []
        elif line.startswith("## "):
            lines = []
        else:
            lines.append(line)
    return {name: "\n".join(lines).strip() for name, lines in statements.items()}


def load() -> dict[str, str]:
    return {name: text for file in FILES for name, text in parse((FOLDER / file).read_text()).items()}


@dataclass
class StatementMap:
    """Which tests hold which statement, and how these tests ended."""

    statements: Mapping[str, str]
    tests: dict[str, list[str]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    def claim(self, test: str, names: Iterable[str]) -> None:
        for name in names:
            held_by = self.tests.setdefault(name, [])
            if test not in held_by:  # one entry for all parameters of a test
                held_by.append(test)

    def ended(self, test: str, outcome: str) -> None:
        """A test has a set-up, a call and a tear-down: anything worse than passed stays."""
        if self.outcomes.get(test, "passed") == "passed":
            self.outcomes[test] = outcome

    def problems(self) -> list[str]:
        found = [
            f"{', '.join(tests)} name{'s' * (len(tests) == 1)} {name!r}, and there is no such statement"
            for name, tests in self.tests.items()
            if name not in self.statements
        ]
        for name, text in self.statements.items():
            held_by = self.tests.get(name, [])
            if not held_by:
                found.append(f"{name} has no test: {first_words(text)}")
            elif all(self.outcomes.get(test) == "skipped" for test in held_by):
                found.append(f"{name} has only tests that were skipped: {first_words(text)}")
        return found

    def lines(self) -> list[str]:
        """One line a statement: id, first words, tests; a test that did not pass says how it ended."""
        return [
            f"{name:<17} {first_words(text):<{FIRST_WORDS}} {self._tests_of(name)}".rstrip()
            for name, text in self.statements.items()
        ]

    def _tests_of(self, name: str) -> str:
        return ", ".join(self._shown(test) for test in self.tests.get(name, []))

    def _shown(self, test: str) -> str:
        outcome = self.outcomes.get(test, "not run")
        short = test.rpartition("/")[2].replace(".py::", "::").removeprefix("test_").replace("::test_", ".")
        return short if outcome == "passed" else f"{short} ({outcome})"


def first_words(text: str) -> str:
    line = " ".join(text.replace("•", "").split())
    return line if len(line) <= FIRST_WORDS else line[: FIRST_WORDS - 1].rstrip() + "…"
