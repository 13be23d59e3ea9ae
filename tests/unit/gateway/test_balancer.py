"""The choice of a pod for a request."""

from collections import Counter

from forebay_gateway.endpoints.balancer import SUSPECT_SECONDS, Balancer, pick
from forebay_gateway.endpoints.endpoint import Address

MAX_PROBED_PODS = [Address(f"10.0.0.{number}", 8000) for number in range(4)]


def conversation(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_without_a_conversation_the_least_busy_pod_is_chosen() -> None:
    outstanding = {MAX_PROBED_PODS[0]: 3, MAX_PROBED_PODS[1]: 1, MAX_PROBED_PODS[2]: 2, MAX_PROBED_PODS[3]: 2}
    assert pick(MAX_PROBED_PODS, outstanding, b"") == MAX_PROBED_PODS[1]


def test_equally_busy_pods_are_chosen_at_random() -> None:
    assert len({pick(MAX_PROBED_PODS, {}, b"") for _ in range(200)}) == 4


def test_a_conversation_stays_on_its_pod_in_whatever_order_pods_are_listed() -> None:
    for number in range(50):
        assert pick(MAX_PROBED_PODS, {}, conversation(number)) == pick(MAX_PROBED_PODS[::-1], {}, conversation(number))


def test_conversations_spread_over_the_pods() -> None:
    counts = Counter(pick(MAX_PROBED_PODS, {}, conversation(number)) for number in range(1000))
    assert min(counts.values()) > 180


def test_a_removed_pod_moves_only_its_own_conversations() -> None:
    before = {number: pick(MAX_PROBED_PODS, {}, conversation(number)) for number in range(200)}
    for number, pod in before.items():
        if pod != MAX_PROBED_PODS[2]:
            assert pick([*MAX_PROBED_PODS[:2], MAX_PROBED_PODS[3]], {}, conversation(number)) == pod


def test_one_conversation_cannot_load_its_pod_beyond_the_bound() -> None:
    outstanding: Counter[Address] = Counter()
    for _ in range(100):
        outstanding[pick(MAX_PROBED_PODS, outstanding, conversation(1))] += 1
    assert max(outstanding.values()) <= 1.25 * 100 / 4 + 1
    assert len(outstanding) == 4


def test_a_pod_that_refused_a_connection_is_skipped_for_some_time() -> None:
    now = 100.0
    balancer = Balancer(lambda: now)
    balancer.suspect(MAX_PROBED_PODS[0])
    assert {balancer.pick(MAX_PROBED_PODS[:2], b"") for _ in range(50)} == {MAX_PROBED_PODS[1]}
    assert balancer.pick(MAX_PROBED_PODS[:1], b"") is None
    now += SUSPECT_SECONDS + 0.1
    assert balancer.pick(MAX_PROBED_PODS[:1], b"") == MAX_PROBED_PODS[0]


def test_outstanding_requests_are_counted_until_they_end() -> None:
    balancer = Balancer()
    with balancer.at(MAX_PROBED_PODS[0]):
        assert {balancer.pick(MAX_PROBED_PODS[:2], b"") for _ in range(50)} == {MAX_PROBED_PODS[1]}
    assert {balancer.pick(MAX_PROBED_PODS[:2], b"") for _ in range(200)} == {MAX_PROBED_PODS[0], MAX_PROBED_PODS[1]}
