"""Where a connection counts: with others of its address until it has shown a key, then with those of its tenant."""

from forebay_gateway.fairness.budgets import Budgets


class ConnectionQuota:
    """Of one connection."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._source = ""
        self._tenant: str | None = None

    def take_unknown(self, source: str) -> bool:
        """Whether one more from this address may come in; if so it counts from now on."""
        if not self._budgets.unknown.take(source):
            return False
        self._source = source
        return True

    def take_known(self, tenant: str) -> bool:
        """Whether it may count as the tenant's; if so it does from now on, and nowhere else."""
        if not self._budgets.known.take(tenant):
            return False
        self.release()
        self._tenant = tenant
        return True

    def move(self, tenant: str) -> bool:
        """Whether it may count as another tenant's, where it counts as one's."""
        return self._tenant is None or self.take_known(tenant)

    def release(self) -> None:
        """It counts no more where it did."""
        if self._source:
            self._budgets.unknown.give(self._source)
            self._source = ""
        if self._tenant is not None:
            self._budgets.known.give(self._tenant)
            self._tenant = None
