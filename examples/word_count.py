"""Word count as a tree of tasks: each leaf counts one text, each node above adds two counts.

Only ids travel through the driver; the counts themselves stay in the object store until the root is
fetched.  The text is Python's own reference manual, which ships with Python (`help()` shows it), or
any folder of text files.
"""

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
SUFFIXES = {".txt", ".md", ".rst", ".py"}


def words(text: str) -> Counter[str]:
    return Counter(WORD.findall(text.lower()))


@ray.remote
def count_words(text: str) -> Counter[str]:
    return words(text)


@ray.remote
def added(left: Counter[str], right: Counter[str]) -> Counter[str]:
    return left + right


def texts(folder: Path | None) -> list[str]:
    if folder is None:
        from pydoc_data.topics import topics

        return list(topics.values())
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return [path.read_text(errors="replace") for path in files]


def tree(leaves: list[Any]) -> Any:
    """The id of the sum over all leaves; a tree, so that its depth grows with the logarithm."""
    while len(leaves) > 1:
        pairs = [added.remote(left, right) for left, right in zip(leaves[::2], leaves[1::2], strict=False)]
        leaves = pairs + leaves[len(pairs) * 2 :]
    return leaves[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="count the text files below this folder instead")
    parser.add_argument("--top", type=int, default=10, help="how many words to show (10)")
    parser.add_argument("--redis-address", help="run on the cluster that is there (a session of its own)")
    options = parser.parse_args()
    documents = texts(options.folder)
    if not documents:
        print(f"No text files ({', '.join(sorted(SUFFIXES))}) below {options.folder}.")
        return 1

    ray.init(redis_address=options.redis_address)
    began = time.perf_counter()
    counts = ray.get(tree([count_words.remote(text) for text in documents]))
    took = time.perf_counter() - began
    ray.shutdown()

    print(f"{counts.total():,} words, {len(counts):,} different, in {len(documents)} texts; {took:.2f} s")
    for word, count in counts.most_common(options.top):
        print(f"{count:>8,}  {word}")
    if counts != sum((words(text) for text in documents), Counter()):
        print("Wrong: a serial count of the same texts gives something else.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
