"""docs/troubleshooting.md, written from the tables: `python -m docs.generators.troubleshooting`."""

from collections.abc import Iterable

from docs.generators.reference import MAX_CELL
from docs.generators.symptoms import SYMPTOMS
from forebay_operator.status.diagnosis import FAILURES
from forebay_operator.status.readiness import STATES

HEAD = """\
# Troubleshooting

<!-- Written by `make docs` from the operator's tables and docs/generators. Don't edit. -->

Start with these commands. STATUS is the reason of the endpoint's Ready condition. `describe` shows the events, and
the message that says what to do.

```
kubectl get iep
kubectl describe iep NAME
```

Find your problem [by symptom](#by-symptom), or look up STATUS under [normal states](#normal-states) and
[failure reasons](#failure-reasons).

"""

CONDITIONS = """
## Conditions

| condition | True means |
|---|---|
| Ready | The endpoint answers, or it is off as you requested. During a failed update, old pods answer. |
| Reconciling | Forebay or Kubernetes is working on it, and continues automatically once it can. |
| Stalled | Only a change by you helps. Forebay tries nothing until then. |
| ModelLoaded | At least one pod has the model in memory. |
| EnvRecognized | No variable in `env` looks misspelled or without effect. The message can recommend one more. |
| RouteReady | Every Gateway in `spec.route.parentRefs` has accepted the route. |
| UpToDate | The endpoint has the current pod template. If False, an [upgrade](how-to/upgrade.md) waits or runs. |

`kubectl wait --for=condition=Ready`, Flux and Helm's `--wait` use these conditions:

- An endpoint is done if Ready is True and Reconciling is not.
- It has failed if Stalled is True.
- In all other cases it is in progress.
"""

STATES_HEAD = """
## Normal states

| STATUS | meaning |
|---|---|
"""

FAILURES_HEAD = """
## Failure reasons

Reasons with * are Stalled.

| STATUS | cause | what to do |
|---|---|---|
"""

FAILURES_TAIL = """
`NoSuchGPU` and `GPUsTaken` need an operator that may list nodes. Without this right, the reason is `Unschedulable`.
"""

ARGO_CD_HEAD = """
## Argo CD

Argo CD does not know kstatus. With this health check it applies the same rules to endpoints. Put it into the ConfigMap
`argocd-cm`, under `resource.customizations.health.forebay.dev_InferenceEndpoint`. A test runs the check in Lua 5.1, the
version that Argo CD uses. Argo CD itself is not tested.

"""

TAIL = """
## Failed server starts

A server that cannot start reports a reason, a message and what to do, and the endpoint shows them. Examples are a gated
repository, an unknown flag, or a model that does not fit the GPU. [lifecycle.md](lifecycle.md#startup-failures)
lists these reasons. If a model does not fit and the operator may list nodes, the message also names nodes with larger
GPUs. It uses the labels of GPU feature discovery.

## Startup progress

`status.startup` shows the progress of the most advanced pod while the endpoint is starting. It has the step, and for a
download the percentage, bytes per second and seconds left. `status.lastStart` has the seconds of each step of the last
start:

```
kubectl get iep NAME -o jsonpath='{.status.lastStart}'
```
"""


ARGO_CD = """\
local health = {status = "Progressing", message = "the operator has not seen this change yet"}
if obj.status == nil or obj.status.conditions == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end
if found.Ready == nil then
  return health
end
health.message = found.Ready.reason .. ": " .. found.Ready.message
if found.Stalled ~= nil and found.Stalled.status == "True" then
  health.status = "Degraded"
elseif found.Ready.status == "True" and (found.Reconciling == nil or found.Reconciling.status ~= "True") then
  local off = found.Ready.reason == "Suspended" or found.Ready.reason == "ScaledToZero"
  health.status = off and "Suspended" or "Healthy"
end
return health
"""
"""The rules of kstatus as a health check of Argo CD."""


def build_page() -> str:
    """The page, in Markdown."""
    states = _rows((f"`{name}`", meaning) for name, meaning in STATES.items())
    failures = _rows(
        (f"`{reason.name}`{' *' if reason.stalled else ''}", reason.meaning, _shorten(_as_sentence(reason.remedy)))
        for reason in FAILURES
    )
    details = "".join(
        f"\n`{reason.name}`: {remedy}\n" for reason in FAILURES if len(remedy := _as_sentence(reason.remedy)) > MAX_CELL
    )
    tables = STATES_HEAD + states + FAILURES_HEAD + failures + FAILURES_TAIL + details
    argo_cd = f"{ARGO_CD_HEAD}```lua\n{ARGO_CD}```\n"
    return HEAD + SYMPTOMS + CONDITIONS + tables + TAIL + argo_cd


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def _as_sentence(remedy: str) -> str:
    """The remedy with the words that are filled in later in angle brackets."""
    words = remedy.replace("{", "&lt;").replace("}", ">")
    return f"{words}." if words else ""


def _shorten(text: str) -> str:
    """Shorten a text to fit into a table's cell: a longer one to its first sentence."""
    return text if len(text) <= MAX_CELL else f"{text.partition('. ')[0]}."


if __name__ == "__main__":
    print(build_page(), end="")
