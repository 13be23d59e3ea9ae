"""How many replicas there should be: the decision's properties, one by one and over whole traces of load."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling import TRACES, SimulatedRequest, make_requests, make_rules, simulate
from forebay_operator.autoscaling import History, Policy, Sample, decide
from forebay_operator.autoscaling.job_counts import JobCounts
from forebay_operator.pods.load import GatewayLoad, PodLoad, parse_gateway_load, parse_load

POLICY = Policy(
    min_replicas=0, max_replicas=10, concurrency=10, idle_timeout=120, scale_up_window=6, scale_down_window=60
)
GATEWAY = [("gateway", GatewayLoad())]


def steady(load: int, seconds: int = 200, ready: int = 1, **fields: float) -> list[Sample]:
    """Samples of a load that stays, one every 2 s."""
    idle = fields.pop("idle", 0.0)
    rest = {name: int(value) for name, value in fields.items()}
    return [Sample(at=float(at), load=load, ready=ready, idle=idle, **rest) for at in range(0, seconds, 2)]


@pytest.mark.parametrize(
    ("load", "replicas", "wanted"),
    [
        pytest.param(0, 1, 1, id="nothing to do, and not yet idle for long enough"),
        pytest.param(1, 0, 1, id="one request wakes"),
        pytest.param(13, 1, 1, id="a little over the target is borne"),
        pytest.param(14, 1, 2, id="more than that is not"),
        pytest.param(95, 1, 10, id="all that is needed comes at once"),
        pytest.param(400, 1, 10, id="never above the most"),
        pytest.param(30, 5, 3, id="fewer when fewer have been enough"),
        pytest.param(31, 4, 4, id="but no fewer than the target asks for"),
    ],
)
def test_replicas_follow_the_load(load: int, replicas: int, wanted: int) -> None:
    assert decide(POLICY, steady(load), replicas) == wanted


def test_the_bounds_hold_without_any_sample() -> None:
    assert [decide(Policy(2, 4), [], replicas) for replicas in (0, 3, 9)] == [2, 3, 4]


def test_a_short_peak_within_the_scale_down_window_keeps_the_replicas() -> None:
    samples = [*steady(30)[:70], *(Sample(float(at), 80, ready=8) for at in range(140, 150, 2))]
    samples += [Sample(float(at), 10, ready=8) for at in range(150, 190, 2)]
    assert decide(POLICY, samples, 8) == 8


@pytest.mark.parametrize("seconds", [2, 30, 58])
def test_no_replica_is_removed_before_a_full_window_of_samples(seconds: int) -> None:
    assert decide(POLICY, steady(0, seconds, idle=1000.0), 5) == 5
    assert decide(POLICY, steady(90, seconds), 5) == 9, "replicas are added immediately"


def test_zero_needs_the_whole_idle_time() -> None:
    assert decide(POLICY, steady(0, idle=119.9), 1) == 1
    assert decide(POLICY, steady(0, idle=120.0), 1) == 0
    assert decide(Policy(1, 10, 10, idle_timeout=120), steady(0, idle=1000.0), 1) == 1


def test_a_replica_that_does_not_answer_stays_and_adds_none() -> None:
    assert decide(POLICY, steady(10, ready=3, unresponsive=2), 3) == 3
    assert decide(POLICY, steady(10, ready=3, unresponsive=1), 3) == 2
    assert decide(POLICY, steady(0, unresponsive=9), 1) == 1


class TestQueueDelay:
    policy = Policy(0, 10, 0, queue_delay=4.0)

    @pytest.mark.parametrize(
        ("sample", "demand"),
        [
            pytest.param(Sample(0, 8, 0, ready=2, capacity=10), 1, id="without a queue as many as run it"),
            pytest.param(Sample(0, 8, 0, ready=4), 3, id="one fewer while the capacity of a replica is unknown"),
            pytest.param(Sample(0, 24, 4, ready=2, capacity=10, rate=1), 2, id="a queue that is short enough"),
            pytest.param(Sample(0, 36, 16, ready=2, capacity=10, rate=2), 4, id="twice too long asks for twice"),
            pytest.param(Sample(0, 24, 4, ready=2, capacity=10, rate=0), 3, id="never more than take all at once"),
            pytest.param(Sample(0, 50, 50, ready=0, capacity=10), 5, id="a cold start with known replicas"),
            pytest.param(Sample(0, 50, 50, ready=0), 1, id="a cold start with unknown ones"),
        ],
    )
    def test_a_queue_that_lasts_too_long_adds_a_replica(self, sample: Sample, demand: int) -> None:
        samples = [Sample(**{**vars(sample), "at": float(at)}) for at in range(0, 100, 2)]
        assert decide(self.policy, samples, 1) in (1, demand), "a small excess is tolerated"
        assert decide(self.policy, samples, 10) == demand


class TestHistory:
    def add(self, history: History, at: float, **said: object) -> Sample:
        pods = said.get("pods", {"a": PodLoad(0, 0)})
        held = said.get("held", GATEWAY)
        return history.add(at, pods, held, ready=int(bool(said.get("ready", True))))  # type: ignore[arg-type]

    def test_idleness_is_computed_from_started_requests(self) -> None:
        history = History(60)
        idle = [self.add(history, at, pods={"a": PodLoad(0, begun)}).idle for at, begun in enumerate((5, 5, 5, 6, 6))]
        assert idle == [0, 1, 2, 0, 1], "a request between two samples is in neither of them"

    @pytest.mark.parametrize(
        "said",
        [
            pytest.param({"pods": {"a": None}}, id="a pod is silent"),
            pytest.param({"held": [("gateway", None)]}, id="a gateway is silent"),
            pytest.param({"held": []}, id="there is no gateway, which would wake it"),
            pytest.param({"held": [("gateway", GatewayLoad(waiting=1))]}, id="a request is held"),
            pytest.param({"held": [("gateway", GatewayLoad(begun=1))]}, id="a request was held and went away"),
            pytest.param({"ready": False}, id="no replica is ready"),
            pytest.param({"pods": {"a": PodLoad(1, 0)}}, id="a request runs"),
            pytest.param({"pods": {"b": PodLoad(0, 1)}}, id="another pod has begun one"),
        ],
    )
    def test_an_endpoint_with_work_is_not_idle(self, said: dict[str, object]) -> None:
        history = History(60)
        for at in range(10):
            self.add(history, at)
        assert self.add(history, 10, **said).idle == 0

    def test_requests_during_a_gap_in_samples_are_counted(self) -> None:
        history = History(60)
        for at, load in enumerate((PodLoad(0, 5), None, PodLoad(0, 6), PodLoad(0, 6))):
            last = self.add(history, at, pods={"a": load})
        assert last.idle == 1

    def test_every_gateway_reports_the_same_jobs(self) -> None:
        held = [("a", GatewayLoad(waiting=1, queued=5)), ("b", GatewayLoad(waiting=2, queued=4))]
        sample = self.add(History(60), 0, held=held)
        assert (sample.load, sample.waiting) == (8, 8)

    def test_the_capacity_of_a_replica_is_learnt_while_requests_wait(self) -> None:
        history = History(60)
        loads = [PodLoad(8, 8, 8, 0), PodLoad(14, 14, 10, 4), PodLoad(3, 14, 3, 0)]
        assert [self.add(history, at, pods={"a": load}).capacity for at, load in enumerate(loads)] == [0, 10, 10]

    def test_a_short_queue_does_not_count_as_a_full_engine(self) -> None:
        """Requests with long prompts wait for the step after the next, even with free capacity."""
        history = History(60)
        loads = [PodLoad(10, 10, 2, 8), *[PodLoad(10, 10, 10, 0)] * 30]
        samples = [self.add(history, 2.0 * at, pods={"a": load}) for at, load in enumerate(loads)]
        assert decide(TestQueueDelay.policy, samples, 1) == 1

    def test_the_rate_counts_finished_requests(self) -> None:
        history = History(60)
        rates = [self.add(history, at, pods={"a": PodLoad(2, 100 + 3 * at)}).rate for at in range(10)]
        assert rates[0] == 0
        assert rates[-1] == pytest.approx(3)

    def test_the_history_is_bounded(self) -> None:
        history = History(60)
        for at in range(1000):
            self.add(history, float(at))
        assert history.samples[0].at == 939


class TestJobs:
    """The jobs in the status."""

    KEY = ("default", "one")

    def test_job_counts_are_reported_immediately_then_rarely_and_at_the_end(self) -> None:
        jobs = JobCounts()
        said = [(0.0, (3, 1)), (2.0, (2, 1)), (9.0, (0, 0)), (10.0, (0, 0)), (12.0, (0, 0)), (30.0, (1, 0))]
        reported = []
        for at, found in said:
            changed = jobs.update([{self.KEY: GatewayLoad(jobs=found)}, {}], at)
            reported.append((bool(changed), jobs.of(self.KEY)))
        assert reported == [
            (True, (3, 1)), (False, (3, 1)), (False, (3, 1)), (True, (0, 0)), (False, (0, 0)), (True, (1, 0)),
        ]  # fmt: skip

    def test_job_counts_stay_while_no_gateway_answers(self) -> None:
        jobs = JobCounts()
        jobs.update([{self.KEY: GatewayLoad(jobs=(1, 1))}], 0.0)
        assert jobs.update([None], 60.0) == []
        assert jobs.of(self.KEY) == (1, 1)
        assert jobs.update([{}, None], 60.0) == [self.KEY], "the endpoint has no metrics any more"
        assert jobs.of(self.KEY) == (0, 0)


class TestParsing:
    def test_a_servers_metrics(self) -> None:
        text = """# HELP forebay_requests_in_flight Requests that are being answered.
forebay_requests_in_flight 3.0
forebay_requests_total 1.5e+01
vllm:num_requests_running{engine="0",model_name="org/model"} 4.0
vllm:num_requests_running{engine="1",model_name="org/model"} 2.0
vllm:num_requests_waiting{engine="0",model_name="org/model"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
"""
        assert parse_load(text) == PodLoad(in_flight=3, begun=15, running=6, waiting=1)
        assert PodLoad(in_flight=3, begun=15, running=6, waiting=1).total == 7

    @pytest.mark.parametrize("text", ["", "forebay_requests_in_flight 1.0", "forebay_requests_total 1e999\n" * 2])
    def test_metrics_without_a_load_are_no_answer(self, text: str) -> None:
        assert parse_load(text) is None

    def test_the_pending_requests_of_a_gateway_are_read(self) -> None:
        text = (
            '{"endpoints": {"default/one": {"held": 2, "begun": 7, "oldestSeconds": 1.5, "queued": 1, '
            '"jobs": {"queued": 3, "running": 4}}}, "since": 1.0}'
        )
        assert parse_gateway_load(text) == {("default", "one"): GatewayLoad(waiting=2, begun=7, queued=1, jobs=(3, 4))}

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"endpoints": {"a/b": {"held": -1}}}', '{"endpoints": {"a/b": 1}}']
    )
    def test_an_invalid_report_is_no_answer(self, text: str) -> None:
        assert parse_gateway_load(text) is None

    @given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
    def test_invalid_metrics_are_no_error(self, text: str) -> None:
        parse_gateway_load(text)
        parse_load(text)


@given(
    loads=st.lists(st.integers(0, 500), min_size=1, max_size=60),
    replicas=st.integers(0, 12),
    least=st.integers(0, 3),
    delay=st.booleans(),
)
def test_the_count_is_always_within_its_bounds(loads: Sequence[int], replicas: int, least: int, delay: bool) -> None:
    policy = Policy(least, 8, 0 if delay else 10, queue_delay=4.0)
    samples = [Sample(float(2 * at), load, load // 3, ready=replicas) for at, load in enumerate(loads)]
    wanted = decide(policy, samples, replicas)
    assert least <= wanted <= 8
    if loads[-1] or len(loads) < 30:
        assert wanted >= min(replicas, 1)
    if len(loads) < 30:
        assert wanted >= min(replicas, 8), "no replica is removed before the window is full"


@pytest.mark.parametrize("loads", [(20, 21), (29, 31), (1, 13), (0, 9)])
def test_a_load_on_the_border_does_not_flap(loads: tuple[int, int]) -> None:
    replicas, samples, seen = 2, list[Sample](), set[int]()
    for step in range(300):
        samples.append(Sample(2.0 * step, loads[step % 2], ready=replicas))
        replicas = decide(POLICY, samples, replicas)
        seen.add(replicas if step > 100 else 0)
    assert len(seen - {0}) == 1


def test_a_constant_load_changes_seldom() -> None:
    requests = [request for request in make_requests("ramp", 1) if 1400 <= request.at < 2400]  # 4 a second
    steady = [SimulatedRequest(one.at - 1400 + 1000 * turn, one.seconds) for turn in range(4) for one in requests]
    rules = make_rules(60)
    ours, knatives = (simulate(steady, 4000, rules[name]()).changes for name in ("Forebay", "Knative KPA"))
    assert ours <= knatives / 3


def test_no_other_rule_has_a_lower_total_over_the_traces() -> None:
    totals = {}
    for label, make in make_rules(60).items():
        outcomes = [simulate(make_requests(name, 1), TRACES[name][0], make()) for name in TRACES]
        totals[label] = sum(outcome.total for outcome in outcomes)
        assert all(max(outcome.counts) <= 20 for outcome in outcomes)
    for label in ("Forebay", "Forebay, idle 5m"):
        assert totals[label] <= min(totals["Knative KPA"], totals["HPA"])
