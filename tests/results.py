"""What the long tests have seen, written down where LMX_RESULTS=FOLDER asks for it, as .ci/full does."""

import json
import os
import platform
from pathlib import Path
from typing import Any


def write(name: str, **seen: Any) -> None:
    if place := os.environ.get("LMX_RESULTS"):
        facts = seen | {"python": platform.python_version(), "cores": os.cpu_count()}
        Path(place).mkdir(parents=True, exist_ok=True)
        (Path(place) / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
