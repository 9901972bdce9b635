"""An environment that holds PyPI's `ray` is refused by name, and nothing else is."""

import subprocess
from pathlib import Path

import pytest

REFUSE = Path(__file__).parents[2] / "scripts" / "refuse_other_ray"


def environment(root: Path, distribution: str) -> Path:
    (root / "lib" / "python3.12" / "site-packages" / distribution).mkdir(parents=True)
    return root


def refuse(environment: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REFUSE, environment], capture_output=True, text=True, timeout=60)


def test_pypis_ray_is_refused_with_its_version_and_the_way_out(tmp_path: Path) -> None:
    result = refuse(environment(tmp_path, "ray-2.60.0.dist-info"))
    assert result.returncode == 1
    assert "PyPI's package 'ray' (version 2.60.0)" in result.stderr
    assert f"{tmp_path}/bin/python -m pip uninstall ray" in result.stderr


@pytest.mark.parametrize("distribution", ["raycore-0.1.0.dist-info", "ray_lightning-1.0.dist-info"])
def test_other_distributions_are_let_be(tmp_path: Path, distribution: str) -> None:
    result = refuse(environment(tmp_path, distribution))
    assert (result.returncode, result.stderr) == (0, "")
