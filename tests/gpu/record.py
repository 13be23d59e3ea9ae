"""The results of one part, in a JSON file that is whole after each measurement."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Measurement = Mapping[str, str | float]
"""Column of the table, with its unit -> value. Measurements with the same columns make one table."""

COMPLETE = "complete"


@dataclass
class Record:
    """The measurements of one part."""

    part: str
    about: Mapping[str, str]
    """The machine and the versions."""
    path: Path
    measurements: list[Measurement] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def put(self, measurement: Measurement) -> None:
        """Store one measurement, on disk as well, and print it."""
        self.measurements.append(measurement)
        print(f"{self.part}: " + ", ".join(f"{name} {shown(value)}" for name, value in measurement.items()), flush=True)
        self.save("unfinished")

    def save(self, state: str) -> None:
        """Write the file. `state` is COMPLETE, or says why it is not."""
        content = {
            "part": self.part,
            "state": state,
            "seconds": round(time.monotonic() - self.began, 1),
            "about": self.about,
            "measurements": self.measurements,
        }
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def shown(value: str | float) -> str:
    """A value as a table shows it: three digits that matter for small numbers."""
    if isinstance(value, str):
        return value
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
