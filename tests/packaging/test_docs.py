"""The pages: what they name exists, links lead somewhere, and what is made from the code is up to date."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import ray
from ray.control_store import schema
from ray.wire.messages import AnyMessage

ROOT = Path(__file__).parents[2]
NOT_OURS = {".git", ".venv", "build", "dist"}
PAGES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not NOT_OURS & set(path.relative_to(ROOT).parts)
    and not path.relative_to(ROOT).parts[0].startswith(".")
)
# Pages about the code; the others are the user's, who has files of his own.
ABOUT_THE_CODE = [
    page
    for page in PAGES
    if page.name == "ARCHITECTURE.md"
    or page.parts[:2] in {("docs", room) for room in ("internals", "decisions")}
]
FOLDERS = "kernel|src|tests|scripts|docs|examples|benchmarks|cmake|requirements"
KERNEL = "".join(path.read_text() for path in sorted((ROOT / "kernel").rglob("*.?pp")))


def _render_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", ROOT / "scripts/render_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render_docs = _render_docs()


def text_of(page: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as a viewer of Markdown makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.relative_to(ROOT))):
            yield link


@cache
def source(path: Path) -> str:
    return path.read_text()


def defines(path: Path, name: str) -> bool:
    """Whether this file defines the function, class or constant."""
    if path.suffix == ".py":
        return bool(
            re.search(rf"^\s*(async )?(def|class) {name}\b|^{name}\b.* = ", source(path), re.MULTILINE)
        )
    return bool(re.search(rf"\b{name}\(|\bstruct {name}\b|\bclass {name}\b| {name} =", source(path)))


def missing(name: str) -> bool:
    """Whether what stands between backticks claims to be of ours, and is not."""
    if match := re.fullmatch(rf"((?:{FOLDERS})/[\w./-]*\w)(?:::(\w+))?", name):
        path = ROOT / match[1]
        return not path.exists() or bool(match[2] and not defines(path, match[2]))
    if match := re.fullmatch(r"[A-Za-z_]+::(\w+)", name):
        return not re.search(rf"\b{match[1]}\(", KERNEL)
    if re.fullmatch(r"ray(\.\w+)+", name):
        return not resolves(name)
    return False


def resolves(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def named(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def section(page: str, heading: str) -> str:
    (found,) = re.findall(
        rf"^## {heading}$(.*?)(?=^## |\Z)", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return str(found)


def test_there_are_pages_of_each_kind() -> None:
    kinds = {page.parts[1] for page in PAGES if page.parts[0] == "docs" and len(page.parts) > 2}
    assert {"internals", "reference", "decisions"} <= kinds
    assert len(ABOUT_THE_CODE) > 15


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text(
        "# One two\n[1](b.md) [2](#one-two) [3](#three) [4](http://x.invalid) [5](a.md#one-two)"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(broken_links(Path("a.md"))) == ["b.md", "#three"]


@pytest.mark.parametrize("page", ABOUT_THE_CODE, ids=str)
def test_what_a_page_names_exists(page: Path) -> None:
    assert [name for name in named(text_of(page)) if missing(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "tests/nowhere.py",
        "tests/packaging/test_docs.py::test_nothing",
        "kernel/check.hpp::no_such_check",
        "Client::no_such_function",
        "ray.core.no_such_module",
    ],
)
def test_what_does_not_exist_is_noticed(name: str) -> None:
    assert missing(name)


def test_each_invariant_names_a_check_and_a_test() -> None:
    rows = [row for row in section("ARCHITECTURE.md", "Invariants").splitlines() if row.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| invariant")]
    assert len(rows) > 20
    for row in rows:
        *_, counted, shown, _ = ["", *row.split("|")]
        tests = [name for name in named(shown) if "::" in name]
        assert tests, row
        assert not [name for name in tests if missing(name)]
        if "kernel/check.hpp" in counted:
            assert all("::" in name for name in named(counted)), row


def test_each_row_of_the_failure_table_names_a_test() -> None:
    page = "docs/reliability.md"
    for heading in ("Processes", "Nodes", "The machine", "Tasks and values"):
        rows = [row for row in section(page, heading).splitlines() if row.startswith("| ")][1:]
        assert len(rows) >= 10
        assert [
            row for row in rows if not re.search(r"`(tests|kernel/tests)/[^`]+`", row.split("|")[-2])
        ] == []


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    """`python scripts/render_docs.py` writes it."""
    made: set[str] = set()
    for page in PAGES:
        text = (ROOT / page).read_text()
        made.update(re.findall(r"^<!-- (.*): made by scripts/render_docs.py -->$", text, re.MULTILINE))
        assert render_docs.rendered(text) == text, page
    assert made == render_docs.PARTS.keys()


def test_an_old_page_is_made_anew() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text()
    old = page.replace("10,000", "9,999")
    assert old != page
    assert render_docs.rendered(old) == page


def test_every_public_name_is_in_the_reference() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs/reference/api.md").read_text()))
    assert set(ray.__all__) - words == set()


def test_every_state_is_on_its_page() -> None:
    records = (ROOT / "kernel/records.hpp").read_text()
    bodies = re.findall(r"^enum \w+State .*?\{(.*?)\};", records, re.MULTILINE | re.DOTALL)
    states = {state for body in bodies for state in re.findall(r"\b([A-Z_]+) = \d", body)}
    assert len(states) > 20
    page = (ROOT / "docs/internals/states.md").read_text()
    assert [state for state in sorted(states) if f"`{state}`" not in page] == []


def test_every_key_is_on_its_page() -> None:
    keys = {value for name, value in vars(schema).items() if name.isupper() and str(value).startswith("ray:")}
    page = (ROOT / "docs/internals/control-store.md").read_text()
    assert keys
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_every_message_is_on_its_page() -> None:
    page = (ROOT / "docs/internals/wire.md").read_text()
    kinds = [kind.__name__ for kind in get_args(AnyMessage)]
    assert [name for name in kinds if f"`{name}`" not in page] == []


def test_decisions_are_numbered_on_and_listed() -> None:
    pages = [page for page in PAGES if page.parts[:2] == ("docs", "decisions")]
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    index = (ROOT / "docs/README.md").read_text()
    for page in pages:
        text = (ROOT / page).read_text()
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert f"decisions/{page.name})" in index
        parts = re.findall(r"^\*\*(\w[^*]*)\.\*\*", text, re.MULTILINE)
        assert parts[0] == "Decision"
        assert parts[1] == "Why"
        assert parts[-1] == "What follows"


def test_python_on_a_page_is_python() -> None:
    found = 0
    for page in PAGES:
        for block in re.findall(
            r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
        ):
            compile(block, str(page), "exec")
            found += 1
    assert found
