"""The startup report."""

from forebay_server.lifecycle.startup import RATE_WINDOW_SECONDS, Download, Startup, Step, describe_startup


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_step_has_its_seconds() -> None:
    clock = Clock()
    startup = Startup(clock=clock)
    clock.now += 6
    startup.enter(Step.LOADING_WEIGHTS)
    clock.now += 10
    startup.enter(Step.COMPILING, at=112.0)
    startup.enter(Step.WARMING_UP)
    clock.now += 1
    startup.enter(Step.READY)
    clock.now += 1000
    assert startup.seconds() == {
        Step.IMPORTING: 6,
        Step.LOADING_WEIGHTS: 6,
        Step.COMPILING: 4,
        Step.WARMING_UP: 1,
    }


def test_startup_steps_only_advance() -> None:
    clock = Clock()
    startup = Startup(clock=clock)
    startup.enter(Step.WARMING_UP)
    startup.enter(Step.LOADING_WEIGHTS, at=101.0)
    startup.enter(Step.WARMING_UP)
    assert startup.step is Step.WARMING_UP
    assert list(startup.seconds()) == [Step.IMPORTING, Step.WARMING_UP]


def test_the_download_rate_covers_the_last_seconds() -> None:
    clock = Clock()
    startup, download = Startup(Step.DOWNLOADING, clock), Download(1000, clock)
    assert describe_startup(startup, download)["bytesPerSecond"] == 0
    for second in range(1, 61):
        clock.now += 1
        download.add(second if second <= 40 else 40 + 20 * (second - 40))
    progress = download.progress()
    assert (progress.done, progress.rate) == (440, 20.0)
    assert describe_startup(startup, download) == {
        "step": "Downloading",
        "seconds": {"Downloading": 60.0},
        "percent": 44,
        "bytes": 440,
        "totalBytes": 1000,
        "bytesPerSecond": 20,
        "etaSeconds": 28,
    }


def test_the_report_advises_a_missing_reasoning_parser() -> None:
    assert describe_startup(Startup(Step.READY), None, reasoning_parser="qwen3")["reasoningParser"] == "qwen3"
    assert "reasoningParser" not in describe_startup(Startup(Step.READY), None)


def test_the_version_of_vllm_and_its_variables_are_reported_once_they_are_known() -> None:
    assert describe_startup(Startup(), None).keys() == {"step", "seconds"}
    report = describe_startup(Startup(), None, vllm_version="0.32.0", variables={"MAX_MODEL_LEN": "flag"})
    assert report["vllmVersion"] == "0.32.0"
    assert report["variables"] == {"MAX_MODEL_LEN": "flag"}
    assert describe_startup(Startup(), None, variables={})["variables"] == {}, "none of them is known"


def test_a_stalled_download_has_no_eta() -> None:
    clock = Clock()
    download = Download(1000, clock)
    for _ in range(int(RATE_WINDOW_SECONDS) + 5):
        clock.now += 1
        download.add(10)
    assert (download.progress().rate, download.progress().eta_seconds) == (0.0, None)
    startup = Startup(Step.DOWNLOADING, clock)
    assert "etaSeconds" not in describe_startup(startup, download)
    startup.enter(Step.LOADING_WEIGHTS)
    assert "percent" not in describe_startup(startup, download)
