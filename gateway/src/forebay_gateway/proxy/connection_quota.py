"""Counts a connection for its address until it has shown a valid key, then for its tenant.

Each client connection has one, and moves it when the first valid key arrives.
"""

from forebay_gateway.fairness.budgets import Budgets


class ConnectionQuota:
    """The quota that one connection uses."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._source = ""
        self._tenant: str | None = None

    def acquire_for_source(self, source: str) -> bool:
        """Count the connection for its address if there is room. Returns whether there was room."""
        if not self._budgets.unknown.try_acquire(source):
            return False
        self._source = source
        return True

    def acquire_for_tenant(self, tenant: str) -> bool:
        """Count the connection for the tenant only, if there is room. Returns whether there was room."""
        if not self._budgets.known.try_acquire(tenant):
            return False
        self.release()
        self._tenant = tenant
        return True

    def move(self, tenant: str) -> bool:
        """Count the connection for another tenant, if it is counted for a tenant now. Returns whether there was
        room."""
        return self._tenant is None or self.acquire_for_tenant(tenant)

    def release(self) -> None:
        """Stop counting the connection."""
        if self._source:
            self._budgets.unknown.release(self._source)
            self._source = ""
        if self._tenant is not None:
            self._budgets.known.release(self._tenant)
            self._tenant = None
