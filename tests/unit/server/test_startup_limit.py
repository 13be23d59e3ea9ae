"""The time limit of a start."""

from forebay_server.lifecycle.startup_limit import too_slow


def test_a_slow_start_names_its_step_and_the_variable() -> None:
    failure = too_slow(1200, "Downloading")
    assert failure.reason == "StartupTimeout"
    assert "within 1200 s (VLLM_STARTUP_TIMEOUT)" in failure.message
    assert "Downloading" in failure.message
    assert failure.exit_status == 1
