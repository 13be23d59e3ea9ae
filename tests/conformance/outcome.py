"""The outcome of a check of the API: a row of the final table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckOutcome:
    """The counts of `passed`, `failures` and `cannot_apply` tests; a failure names the test and the error."""

    name: str
    passed: int
    failures: tuple[str, ...] = ()
    cannot_apply: int = 0

    @property
    def row(self) -> str:
        applied = self.passed + len(self.failures)
        aside = f", {self.cannot_apply} cannot apply" if self.cannot_apply else ""
        return f"{'FAILED' if self.failures else 'ok':<8}{self.name:<50}{self.passed} of {applied}{aside}"

    def check(self) -> None:
        """Raises AssertionError with every failure; also when nothing was tried."""
        assert not self.failures, "\n".join([self.row, *self.failures])
        assert self.passed, f"{self.name}: nothing ran"
