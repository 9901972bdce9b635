"""The program in README.md runs, and prints what its comments say; the commands it names exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_first_program_prints_what_its_comments_say(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    said = re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert said
    path = tmp_path / "program.py"
    path.write_text(program)
    result = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == said


def test_every_make_target_named_in_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z][a-z-]*)", pages, re.MULTILINE))
    assert named
    assert named <= targets


def test_every_link_in_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_each_make_target_is_one_plain_line() -> None:
    recipes = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n?)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(recipes) > 5
    assert [name for name, lines in recipes if lines.count("\n") > 1] == []
