"""Reading a growing .jsonl file: what is new since the last look, whole lines only."""

import json
import os
from pathlib import Path
from typing import Any


class Tail:
    def __init__(self, path: Path):
        self.path, self.offset, self.file = path, 0, 0

    def new(self) -> list[dict[str, Any]]:
        """Lines added since the last call; all again if the file was replaced (a run that was resumed)."""
        try:
            with self.path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                if number != self.file:
                    self.file, self.offset = number, 0
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self.offset += end
        return [json.loads(line) for line in data[:end].splitlines()]
