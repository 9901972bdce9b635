"""Measures what things cost, runs real clusters, predicts them, and predicts larger ones.

Prints the tables of docs/scale.md and writes build/scale/results.json.
"""

import argparse
import contextlib
import io
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.scale import costs, large, page, predicted, real, workload

RESULTS = machine.ROOT / "build" / "scale" / "results.json"
SMALL = (3, 10)
LARGE = (100, 1_000, 10_000)
MANY = 5_000  # nodes: from here on each second takes one to simulate
COMMANDS_A_BATCH = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small and one large cluster, shortly")
    parser.add_argument("--small", type=int, nargs="*", default=SMALL, help="sizes of real clusters (3 10)")
    parser.add_argument("--large", type=int, nargs="*", default=LARGE, help="sizes that are predicted only")
    parser.add_argument("--keep", action="store_true", help="keep of the last run what is not made anew")
    parser.add_argument("--last", action="store_true", help="run nothing: show the last run's results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go")
    parser.add_argument("--publish", action="store_true", help="write tables and plots to docs/ as well")
    options = parser.parse_args()
    if options.quick:
        options.small, options.large = [3], [30]
    return options


def small_plan(nodes: int, quick: bool) -> workload.Plan:
    if quick:
        return workload.Plan(nodes, idle_s=2, tasks_a_cpu=8, bursts=1, deaths=1)
    return workload.Plan(nodes)


def large_plan(nodes: int, quick: bool) -> large.LargePlan:
    if quick:
        return large.LargePlan(nodes, idle_s=2, busy_s=1, warm_s=1, deaths=1, tasks=10_000)
    if nodes >= MANY:
        return large.LargePlan(nodes, idle_s=5, busy_s=5, warm_s=2, deaths=1)
    return large.LargePlan(nodes, idle_s=10, busy_s=10)


def collect(options: argparse.Namespace) -> dict[str, Any]:
    began = time.time()
    results: dict[str, Any] = {"small": {}, "large": {}}
    if options.keep and options.out.exists():
        results = json.loads(options.out.read_text())
    results["command"] = "make scale" + (
        f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
    )
    results["when"] = began
    results["machine"] = machine.described()
    sizes = workload.sizes()
    if options.small or "costs" not in results:
        found = costs.measured(1 if options.quick else costs.ROUNDS)
        results["costs"] = found.rows()
    try:
        known = costs.Costs.read(results["costs"])
    except TypeError as error:
        raise SystemExit(
            f"make scale: {options.out} is of another version: run it without --keep ({error})"
        ) from None
    for nodes in options.small:
        say(f"{nodes} nodes, measured ...")
        plan = small_plan(nodes, options.quick)
        measured = real.measure(plan)
        with without_words():
            foretold = predicted.predict(
                plan, known, sizes, start_us=measured["start_us"], submit_us=measured["submit_us"]
            )
        results["small"][str(nodes)] = {"real": measured, "predicted": foretold}
        results["store_batch_us"] = measured["store_batch_us"]
        results["start_us"], results["submit_us"] = measured["start_us"], measured["submit_us"]
        results["store_command_us"] = measured["store_command_us"]
        results["store_a_second"] = results["small"][str(nodes)]["predicted"]["burst.store"]
        results["store_most"] = COMMANDS_A_BATCH * 1e6 / measured["store_batch_us"]
    for nodes in options.large:
        say(f"{nodes:,} nodes, predicted ...")
        with without_words():
            results["large"][str(nodes)] = large.predict(large_plan(nodes, options.quick), known, sizes)
        save(results, options.out)
    results["took_s"] = results.get("took_s", 0.0) + time.time() - began
    save(results, options.out)
    return results


def save(results: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in ("small", "large"):
        results[part] = dict(sorted(results[part].items(), key=lambda item: int(item[0])))
    out.write_text(json.dumps(results, indent=1))


def without_words() -> contextlib.AbstractContextManager[Any]:
    """Of the deaths that a simulated head declares."""
    return contextlib.redirect_stderr(io.StringIO())


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    options = arguments()
    results = json.loads(options.out.read_text()) if options.last else collect(options)
    for name, text in page.parts(results).items():
        say(f"\n== {name} ==\n{text}")
    say(f"\nResults: {options.out}")
    if options.publish:
        for path in page.publish(results):
            say(f"Written: {path.relative_to(machine.ROOT)}")


if __name__ == "__main__":
    main()
