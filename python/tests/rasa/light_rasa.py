"""Makes `rasa.core.lock_store` importable without what `import rasa` else brings.

With a whole Rasa, as in scripts/test-rasa, nothing is done.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any


def prepare() -> bool:
    """Says whether Rasa is there."""
    if "rasa" in sys.modules:
        return True
    found = importlib.util.find_spec("rasa")
    if found is None or not found.submodule_search_locations:
        return False
    if importlib.util.find_spec("tensorflow") is not None:
        return True
    root = Path(found.submodule_search_locations[0])
    # Their `__init__` imports everything.
    for name in ("rasa", "rasa.core"):
        package = _module(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    # Named in an annotation only.
    _module("sanic")
    _module("sanic.request").Request = object
    # Checks that an endpoints file is a mapping, with a library of its own.
    importlib.import_module("rasa.shared.utils")
    _module("rasa.shared.utils.validation").validate_yaml_schema = lambda *_: None
    return True


def _module(name: str) -> Any:
    """An empty module, known to its parent, as an import would leave it."""
    module = sys.modules.setdefault(name, types.ModuleType(name))
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module
