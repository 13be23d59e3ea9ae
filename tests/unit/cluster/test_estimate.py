"""The estimate of what is left: it begins with what steps took elsewhere, and follows this machine."""

from cluster.estimate import SECONDS_PER_WORK, WORK, Estimate, in_words, work_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def unknown() -> None:
    return None


def test_the_first_estimate_uses_times_measured_elsewhere() -> None:
    found = Estimate(["compiling Go programs", "loading images into a-node"], Clock())
    assert found.seconds_left() == (WORK["compiling Go programs"] + WORK["loading images"]) * SECONDS_PER_WORK


def test_a_slow_machine_changes_the_estimate_after_a_quarter_of_the_work() -> None:
    clock = Clock()
    found = Estimate(["compiling Go programs", "loading images into a-node"], clock)
    done = 0.0
    found.begin("compiling Go programs", lambda: done)
    whole = WORK["compiling Go programs"] + WORK["loading images"]
    for done in (0.5, 0.75, 1.0):
        clock.now = 3 * SECONDS_PER_WORK * WORK["compiling Go programs"] * done
        left = 3 * SECONDS_PER_WORK * whole - clock.now
        assert abs((found.seconds_left() or 0) - left) < 0.01 * left


def test_finished_and_unplanned_steps_do_not_count() -> None:
    clock = Clock()
    found = Estimate(["making the node image"], clock)
    found.begin("installing something", unknown)
    found.begin("making the node image", unknown)
    clock.now = 1000
    assert (found.seconds_left() or 0) > 0, "a step without progress is never done before its end"
    found.end("making the node image")
    found.end("installing something")
    assert found.seconds_left() == 0


def test_nothing_planned_is_no_estimate() -> None:
    assert Estimate(["checking the cluster a"]).seconds_left() is None


def test_a_step_is_identified_by_the_beginning_of_its_name() -> None:
    assert work_of("building the image vllm-cpu") == WORK["building the image vllm-cpu"]
    assert work_of("building the image client") == WORK["building the image"]
    assert work_of("applying examples/smollm2.yaml") == 0


def test_durations_are_rounded_as_an_estimate_deserves() -> None:
    said = [in_words(each) for each in (2, 38, 200, 250, 640)]
    assert said == ["about 5 s", "about 40 s", "about 3 min 30 s", "about 4 min", "about 11 min"]
