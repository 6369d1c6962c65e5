"""Reading a growing .jsonl file: what is new since the last look, whole lines only."""

import json
from pathlib import Path
from typing import Any


class Tail:
    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def new(self) -> list[dict[str, Any]]:
        """Lines added since the last call; all again if the file was cut back (a run that was resumed)."""
        try:
            if self.path.stat().st_size < self.offset:
                self.offset = 0
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self.offset += end
        return [json.loads(line) for line in data[:end].splitlines()]
