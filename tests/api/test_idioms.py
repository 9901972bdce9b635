"""The code of the API text, word for word: as one script, and piece by piece in a running session."""

import ast
import contextlib
import io
from typing import Any

import numpy as np
import pytest

import ray
from tests.api import statements
from tests.api.idioms import PREAMBLE, checked
from tests.api.programs import Programs

TEXT = statements.load()


def code_of(*names: str) -> str:
    return "".join(checked(TEXT[name]) for name in names)


def executed(*names: str) -> dict[str, Any]:
    """The variables after the pieces ran one after the other; the tasks sleep a tenth of what they say."""
    variables: dict[str, Any] = {"ray": ray, "np": np, "__name__": "__main__"}
    exec(PREAMBLE, variables)
    code = code_of(*names).replace("time.sleep(n)", "time.sleep(n / 10)")
    exec(compile(code, f"<{names[0]}>", "exec"), variables)
    return variables


@pytest.mark.statement(
    "script-04", "script-05", "remote-09", "get-03", "put-03", "wait-09", "wait-13", "errors-07"
)
def test_the_whole_text_is_one_program(programs: Programs) -> None:
    """Each piece in its order; definitions of the same name replace each other, as they do for a reader."""
    pieces = [
        name
        for name, text in TEXT.items()
        if not name.startswith("more-") and is_code(text) and not text.startswith("ray.init(")
    ]
    assert len(pieces) == 22
    done = programs.run(PREAMBLE + "import ray\n" + code_of("script-05", *pieces) + "print('the end')\n")
    assert done.out.endswith("the end\n")
    assert done.out.count("[1]\n") == 100  # the loop that prints
    assert "This task failed!!" in done.both


def is_code(text: str) -> bool:
    if "worker=" in text or text == TEXT["decorator-01"]:
        return False  # signatures
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return "\n" in text or "ray." in text or "=" in text or "#" in text


@pytest.mark.statement("remote-09", "remote-10", "remote-11")
def test_remote_function(cluster: Any) -> None:
    variables = executed("remote-09", "remote-10", "remote-11")
    assert ray.get(variables["x_id"]) == 1
    assert ray.get(variables["y_id"]) == 2


@pytest.mark.statement("remote-13", "remote-14")
def test_several_returns(cluster: Any) -> None:
    variables = executed("remote-13", "remote-14")
    assert ray.get([variables["x_id"], variables["y_id"]]) == [1, 2]


@pytest.mark.statement("get-03", "get-04", "get-05")
def test_get(cluster: Any) -> None:
    variables = executed("get-03", "get-04", "get-05")
    assert ray.get(variables["f"].remote()) == {"key1": ["value"]}


@pytest.mark.statement("put-03")
def test_put(cluster: Any) -> None:
    assert ray.get(executed("put-03")["x_id"]) == 1


@pytest.mark.statement("put-06", "put-07", "put-08", "put-09")
def test_put_once_for_many_tasks(cluster: Any) -> None:
    variables = executed("put-06", "put-07", "put-08", "put-09")
    assert ray.get([variables["f"].remote(variables["x_id"]) for _ in range(3)]) == [None] * 3


@pytest.mark.statement("wait-09", "wait-10")
def test_wait_for_two_of_three(cluster: Any) -> None:
    variables = executed("wait-09", "wait-10")
    assert ray.get(variables["ready_ids"]) == [0, 1]
    assert variables["ready_ids"] + variables["remaining_ids"] == variables["results"]
    assert ray.get(variables["remaining_ids"]) == [2]  # and both CPUs are free again


@pytest.mark.statement("wait-09", "wait-11")
def test_wait_for_more_than_there_are(cluster: Any) -> None:
    """The text asks for 4 of 3: it ends with all three, or with the time-out."""
    variables = executed("wait-09", "wait-11")
    assert ray.get(variables["ready_ids"]) == [0, 1, 2]
    assert variables["remaining_ids"] == []


@pytest.mark.statement("wait-12", "wait-13", "wait-14")
def test_always_five_in_flight(cluster: Any) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        variables = executed("wait-13", "wait-14")
    assert output.getvalue() == "[1]\n" * 100
    assert len(variables["remaining_ids"]) == 5


@pytest.mark.statement("errors-07", "errors-08", "errors-09", "errors-10", "error-info-01")
def test_errors(cluster: Any) -> None:
    variables = executed("errors-07", "errors-08", "errors-09", "errors-10")
    assert "This task failed!!" in str(ray.error_info()[-1])
    with pytest.raises(Exception, match="This task failed!!"):
        ray.get(variables["f"].remote())


@pytest.mark.statement("script-08")
def test_init_with_20_cpus_and_2_gpus(programs: Programs, tmp_path: Any) -> None:
    """Twenty tasks meet: that many run at once, whatever the machine has."""
    place = tmp_path / "place"
    place.mkdir()
    source = f"""
        import ray
        from tests.api.meeting import meet
        {TEXT["script-08"]}
        run = ray.remote(meet)
        print(ray.get([run.remote({str(place)!r}, 20) for _ in range(20)]) == [True] * 20)

        @ray.remote(num_gpus=2)
        def gpus():
            return ray.get_gpu_ids()

        print(sorted(ray.get(gpus.remote())))
    """
    done = programs.run(source)
    assert done.out.splitlines() == ["True", "[0, 1]"]
