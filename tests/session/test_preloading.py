import json
import os
import sys
import types

from ray.session import preloading


def test_of_the_standard_library_what_the_driver_has_is_imported_later():
    found = preloading.later(sys.modules)
    assert {"json", "json.decoder", "os"} <= set(found)
    assert not [name for name in found if name.partition(".")[0] in ("numpy", "pytest", "ray", "__main__")]


def test_a_users_file_with_the_name_of_a_standard_module_is_left_out(tmp_path):
    mine = types.ModuleType("colorsys")
    mine.__file__ = str(tmp_path / "colorsys.py")
    assert preloading.later({"colorsys": mine, "json": json}) == ["json"]


def test_modules_that_change_the_terminal_are_left_out():
    fake = types.ModuleType("readline")
    fake.__file__ = os.path.join(os.path.dirname(os.__file__), "lib-dynload", "readline.so")
    assert preloading.later({"readline": fake, "curses.ascii": fake, "json": json}) == ["json"]


def test_at_once_are_known_libraries_only():
    assert preloading.at_once({"numpy": json, "json": json}) == ["numpy"]
    assert preloading.at_once({"json": json}) == []
