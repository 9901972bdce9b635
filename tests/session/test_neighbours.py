import sys

import pytest

from ray.errors import InitError
from ray.session.neighbours import other_ray, refuse_other_ray


def test_no_other_ray_is_found_where_there_is_none(tmp_path):
    assert other_ray([str(tmp_path), "/nowhere/site-packages"]) is None


def test_another_ray_is_named_with_its_version(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "ray-2.60.0.dist-info").mkdir(parents=True)
    (site / "raycore-1.0.dist-info").mkdir()
    assert other_ray([str(site)]) == "2.60.0"
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    with pytest.raises(InitError, match=r"'ray' \(2\.60\.0\).*pip uninstall"):
        refuse_other_ray()
