"""Every page of the user's guide is a program: its pieces run in their order, and give what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.idioms import PREAMBLE, checked

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
FENCED = re.compile(r"^```python *(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(page.name for page in GUIDE.glob("*.md"))


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_the_code_of_a_page(name: str, tmp_path: Path) -> None:
    """A piece with a file's name after `python` is that file, for the others to run."""
    pieces: list[str] = []
    for file, code in FENCED.findall((GUIDE / name).read_text()):
        if file:
            (tmp_path / file).write_text(code)
        else:
            pieces.append(checked(code))
    assert pieces
    assert sum(piece.count("_checked(") + piece.count("_printed(") for piece in pieces) >= 2
    program = tmp_path / "page.py"
    program.write_text(PREAMBLE + "".join(pieces))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_index_names_every_page() -> None:
    index = (GUIDE / "README.md").read_text()
    assert sorted(re.findall(r"\]\((\w+\.md)\)", index)) == [name for name in PAGES if name != "README.md"]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (GUIDE / name).read_text()):
        assert (GUIDE / target).exists(), target


def test_checked_makes_checks_of_comments() -> None:
    code = "x = 1\nx + 1  # 2\nif x:\n    print(x, 'y')  # 1 y\nx + 5  # It says so.\n"
    assert checked(code) == (
        "x = 1\n_checked((x + 1), 2)\nif x:\n    _printed('1 y', x, 'y')\nx + 5  # It says so.\n"
    )
    exec(PREAMBLE + checked(code), {})
    for wrong in ("1 + 1  # 3", "print(1)  # 2"):
        with pytest.raises(AssertionError):
            exec(PREAMBLE + checked(wrong), {})
