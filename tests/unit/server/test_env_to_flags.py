"""The environment as arguments of vLLM, on a small parser with every kind of flag that vLLM's has."""

import argparse
import json

import pytest

from forebay_server.config.env_to_flags import Resolution, refused_options, resolve_flags
from forebay_server.config.vllm_flags import flags_of


def small_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm serve")
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model", default="facebook/opt-125m")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--tokenizer")
    parser.add_argument("--revision")
    parser.add_argument("--response-role", default="assistant")
    parser.add_argument("--chat-template")
    parser.add_argument("--hf-token")
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--disable-log-stats", action="store_true")
    parser.add_argument("--lora-modules", nargs="+")
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--hf-overrides", type=json.loads, default={})
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ssl-keyfile")
    parser.add_argument("--ssl-certfile")
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--speculative-config", type=json.loads)
    parser.add_argument("--enable-lora", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--max-cpu-loras", type=int)
    parser.add_argument("--quantization")
    return parser


def resolved(**env: str) -> Resolution:
    return resolve_flags(
        env,
        flags_of(small_parser()),
        vllm_variables=["VLLM_LOGGING_LEVEL"],
        own_variables=["FOREBAY_AUTH", "BASE_PATH"],
        read_config_file=lambda path: ["--model", "from/file", "--max-model-len", "1", f"--revision={path}"],
    )


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ({}, []),
        ({"MAX_MODEL_LEN": "8192"}, ["--max-model-len=8192"]),
        ({"MAX_MODEL_LEN": ""}, []),
        ({"MAX_MODEL_LEN": "0"}, []),
        ({"MAX_NUM_BATCHED_TOKENS": " 0 "}, []),
        ({"GPU_MEMORY_UTILIZATION": "0"}, ["--gpu-memory-utilization=0"]),
        ({"ENFORCE_EAGER": "true"}, ["--enforce-eager"]),
        ({"ENFORCE_EAGER": "YES"}, ["--enforce-eager"]),
        ({"ENFORCE_EAGER": "0"}, ["--no-enforce-eager"]),
        ({"DISABLE_LOG_STATS": "on"}, ["--disable-log-stats"]),
        ({"DISABLE_LOG_STATS": "off"}, []),
        ({"SERVED_MODEL_NAME": "a b"}, ["--served-model-name", "a", "b"]),
        ({"SERVED_MODEL_NAME": "a,b"}, ["--served-model-name", "a", "b"]),
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": "mine"}, ["--served-model-name", "mine"]),
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": " My Model, v2\n"}, ["--served-model-name", "My Model, v2"]),
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": "[]"}, []),
        ({"LORA_MODULES": '[{"name": "a"}]'}, ["--lora-modules", '{"name": "a"}']),
        ({"MIDDLEWARE": "a.B,c.D"}, ["--middleware=a.B", "--middleware=c.D"]),
        ({"HF_OVERRIDES": '{"a": [1, 2]}'}, ['--hf-overrides={"a": [1, 2]}']),
        ({"HF_OVERRIDES": "image=2"}, ['--hf-overrides={"image": 2}']),
        ({"HF_OVERRIDES": " image = 2, video=x.y,c=true "}, ['--hf-overrides={"image": 2, "video": "x.y", "c": true}']),
        ({"HF_OVERRIDES": "image=2,video"}, ["--hf-overrides=image=2,video"]),
        ({"TOKENIZER_NAME": "t", "TOKENIZER": "u"}, ["--tokenizer=t"]),
        ({"VLLM_EXTRA_ARGS": "--chat-template 'a b'"}, ["--chat-template", "a b"]),
        ({"FOREBAY_ARGS": '["--chat-template", "a b"]'}, ["--chat-template", "a b"]),
        ({"FOREBAY_ARGS": "[]"}, []),
        ({"HF_TOKEN": "hf_secret"}, []),
        ({"HOST": "1.2.3.4", "PORT": "80", "HELP": "1"}, []),
        ({"QUANTIZATION": "None"}, []),
        ({"QUANTIZATION": " awq\n"}, ["--quantization=awq"]),
        ({"CHAT_TEMPLATE": "  {{ a }}\n"}, ["--chat-template=  {{ a }}\n"]),
        ({"LORA_MODULES": "[]"}, []),
        ({"LORA_MODULES": " [ ] "}, []),
        ({"QUANTIZATION": "  "}, []),
        ({"MAX_CPU_LORAS": "0"}, []),
        ({"RESPONSE_ROLE": "None"}, ["--response-role=None"]),
        ({"SPECULATIVE_CONFIG": '{"method": "ngram"}'}, ['--speculative-config={"method": "ngram"}']),
        (
            {"SPECULATIVE_MODEL": "a/b", "NUM_SPECULATIVE_TOKENS": "3"},
            ['--speculative-config={"model": "a/b", "num_speculative_tokens": 3}'],
        ),
    ],
)  # fmt: skip
def test_a_variable_becomes_its_argument(env: dict[str, str], arguments: list[str]) -> None:
    result = resolved(MODEL_NAME="some/model", **env)
    assert result.arguments == arguments
    assert result.errors == []
    assert result.model == "some/model"


def test_precedence_is_file_then_flag_then_alias_then_extra_arguments() -> None:
    result = resolved(
        VLLM_CONFIG_FILE="main.yaml",
        MAX_MODEL_LEN="2",
        REVISION="flag",
        MODEL_REVISION="alias",
        VLLM_EXTRA_ARGS="--max-model-len=3",
    )
    parsed = small_parser().parse_args(result.arguments)
    assert (result.model, parsed.max_model_len, parsed.revision) == ("from/file", 3, "alias")


def test_the_endpoints_args_override_all_variables() -> None:
    result = resolved(
        MODEL_NAME="m",
        VLLM_CONFIG_FILE="main.yaml",
        MAX_MODEL_LEN="2",
        TOKENIZER_NAME="alias",
        QUANTIZATION="awq",
        VLLM_EXTRA_ARGS="--max-model-len=3 --tokenizer extra --response-role bot",
        FOREBAY_ARGS='["--max-model-len", "4", "--tokenizer=args"]',
    )
    parsed = small_parser().parse_args(result.arguments)
    assert (parsed.max_model_len, parsed.tokenizer) == (4, "args")
    assert (parsed.quantization, parsed.response_role) == ("awq", "bot"), "other settings stay"
    assert result.endpoint_arguments == ["--max-model-len", "4", "--tokenizer=args"]
    assert result.ignored == [
        "MAX_MODEL_LEN is ignored: spec.args sets --max-model-len.",
        "TOKENIZER_NAME is ignored: spec.args sets --tokenizer.",
    ]


def test_a_negated_flag_in_args_overrides_its_variable() -> None:
    result = resolved(MODEL_NAME="m", ENFORCE_EAGER="true", FOREBAY_ARGS='["--no-enforce-eager", "-O2"]')
    assert small_parser().parse_args(result.arguments[:-1]).enforce_eager is False
    assert result.ignored == ["ENFORCE_EAGER is ignored: spec.args sets --enforce-eager."]


@pytest.mark.parametrize(
    ("env", "model"),
    [
        ({"MODEL_NAME": "a/b"}, "a/b"),
        ({"MODEL_NAME": " a/b\n"}, "a/b"),
        ({"MODEL": "everyone's"}, ""),
        ({"MODEL_NAME": "a/b", "VLLM_CONFIG_FILE": "f.yaml"}, "a/b"),
        ({"VLLM_CONFIG_FILE": "f.yaml"}, "from/file"),
        ({"MODEL_NAME": "a/b", "VLLM_EXTRA_ARGS": "--model c/d"}, "c/d"),
    ],
)
def test_the_model_is_the_first_argument(env: dict[str, str], model: str) -> None:
    result = resolved(**env)
    assert result.model == model
    assert not [argument for argument in result.arguments if argument.startswith("--model")]
    assert bool(result.errors) == (model == "")


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"ENFORCE_EAGER": "maybe"}, "ENFORCE_EAGER='maybe': expected true, 1, yes or on, or false, 0, no or off."),
        ({"LORA_MODULES": '[{"name"'}, "LORA_MODULES="),
        ({"VLLM_EXTRA_ARGS": "--a 'b"}, "VLLM_EXTRA_ARGS: No closing quotation."),
        ({"FOREBAY_ARGS": "--a b"}, "FOREBAY_ARGS: expected a JSON list of texts"),
        ({"FOREBAY_ARGS": '{"a": 1}'}, "FOREBAY_ARGS: expected a JSON list of texts."),
        ({"FOREBAY_ARGS": "[1]"}, "FOREBAY_ARGS: expected a JSON list of texts."),
        ({"FOREBAY_ARGS": 100_000 * "["}, "FOREBAY_ARGS: expected a JSON list of texts"),
        ({"NUM_SPECULATIVE_TOKENS": "3"}, "NUM_SPECULATIVE_TOKENS alone is not enough: set SPECULATIVE_METHOD"),
        ({"SSL_KEYFILE": "/k"}, "SSL_KEYFILE cannot be set: TLS ends before the pod."),
        ({"VLLM_API_KEY": "k"}, "VLLM_API_KEY cannot be set"),
        ({"VLLM_USE_RUST_FRONTEND": "1"}, "VLLM_USE_RUST_FRONTEND cannot be set"),
        ({"VLLM_SERVER_DEV_MODE": "1"}, "VLLM_SERVER_DEV_MODE cannot be set"),
    ],
)
def test_invalid_variables_are_errors(env: dict[str, str], error: str) -> None:
    (message,) = resolved(MODEL_NAME="m", **env).errors
    assert message.startswith(error)


@pytest.mark.parametrize(
    ("env", "warnings"),
    [
        ({"MAX_MODEL_LENGTH": "1"}, []),
        ({"MAX_MODEL_LEM": "1"}, ["MAX_MODEL_LEM is not known. Did you mean MAX_MODEL_LEN?"]),
        ({"MAX_MODLE_LEN": "1"}, ["MAX_MODLE_LEN is not known. Did you mean MAX_MODEL_LEN?"]),
        ({"VLLM_LOGING_LEVEL": "1"}, ["VLLM_LOGING_LEVEL is not known. Did you mean VLLM_LOGGING_LEVEL?"]),
        ({"MODEL_NAM": "1"}, ["MODEL_NAM is not known. Did you mean MODEL_NAME?"]),
        ({"max_model_len": "1"}, ["max_model_len is not known. Did you mean MAX_MODEL_LEN?"]),
        ({"Max-Model-Len": "1"}, ["Max-Model-Len is not known. Did you mean MAX_MODEL_LEN?"]),
        ({"max_model_lem": "1", "http_proxy": "1"}, []),
        ({"HF_TOKEM": "1"}, ["HF_TOKEM is not known. Did you mean HF_TOKEN?"]),
        ({"SWAP_SPACE": "4"}, ["SWAP_SPACE is ignored: vLLM has removed it. Set KV_OFFLOADING_SIZE."]),
        ({"PREEMPTION_MODE": "x"}, ["PREEMPTION_MODE is ignored: vLLM has removed it. Nothing replaces it."]),
        ({"NO_ENABLE_LORA": "1"}, ["NO_ENABLE_LORA has no effect here. Set ENABLE_LORA, to false or to true."]),
        (
            {"SPECULATIVE_CONFIG": '{"method": "ngram"}', "NGRAM_PROMPT_LOOKUP_MAX": "4"},
            ["NGRAM_PROMPT_LOOKUP_MAX is ignored: SPECULATIVE_CONFIG is set."],
        ),
        ({"API_KEY": "k"}, ["API_KEY has no effect here. Keys come from the endpoint's Secret, see spec.auth."]),
        (
            {"VLLM_PORT": "8000", "PORT_HEALTH": "8080"},
            [
                "PORT_HEALTH has no effect here. Kubernetes checks the server's health on its port 8001.",
                "VLLM_PORT has no effect here. The server listens on its port 8000. For vLLM this is the port of "
                "its own processes.",
            ],
        ),
        ({"TOKENIZER_NAME": "t", "TOKENIZER": "u"}, ["TOKENIZER is ignored: TOKENIZER_NAME is set."]),
        ({"VLLM_API_KEY": "", "SWAP_SPACE": ""}, []),
        ({"VLLM_SERVER_DEV_MODE": "0"}, []),
    ],
)
def test_variables_without_effect_are_reported(env: dict[str, str], warnings: list[str]) -> None:
    result = resolved(MODEL_NAME="m", **env)
    assert result.ignored + result.warnings == warnings
    assert result.errors == []


def test_the_variables_of_kubernetes_cause_no_warning() -> None:
    everyday = (
        "HOME HOSTNAME KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_SERVICE_HOST "
        "LANG LC_ALL LD_LIBRARY_PATH LD_PRELOAD NVIDIA_VISIBLE_DEVICES OLDPWD PATH PWD PYTHONPATH "
        "PYTHONUNBUFFERED SHELL "
        "SHLVL SSL_CERT_DIR SSL_CERT_FILE TERM TMPDIR TZ USER VIRTUAL_ENV FOREBAY_AUTH BASE_PATH HF_ENDPOINT CUDA_HOME"
    )
    assert resolved(MODEL_NAME="m", **dict.fromkeys(everyday.split(), "x")).warnings == []


def test_a_secret_is_never_an_argument() -> None:
    assert "hf_secret" not in str(resolved(MODEL_NAME="m", HF_TOKEN="hf_secret").arguments)


def test_each_argument_has_the_variable_that_set_it() -> None:
    (setting,) = resolved(MODEL_NAME="", OPENAI_RESPONSE_ROLE="bot").settings
    assert (setting.variable, setting.value, setting.flag.option, setting.arguments) == (
        "OPENAI_RESPONSE_ROLE",
        "bot",
        "--response-role",
        ("--response-role=bot",),
    )


def test_a_rejected_flag_is_found_in_every_source() -> None:
    errors = refused_options({"PORT": 9, "SSL_KEYFILE": None}, {"PORT": 8000, "SSL_KEYFILE": None})
    assert errors == ["--port cannot be set: the Service reaches the server on its port 8000."]
