"""docs/troubleshooting.md, written from the tables: `python -m docs.generators.troubleshooting`."""

from collections.abc import Iterable

from forebay_operator.status.diagnosis import FAILURES
from forebay_operator.status.readiness import STATES

HEAD = """\
# When an endpoint does not serve

Ask the endpoint first: `kubectl get iep` shows the reason of its Ready condition as STATUS, `kubectl describe iep NAME`
the sentence that goes with it, with what to do, and the events that led there. This page lists the reasons. It is
written from the operator's own tables by `make docs`.

| condition | True means |
|---|---|
| Ready | the endpoint answers (while an update fails, as long as old pods do); or it is off, as you asked |
| Reconciling | Forebay or Kubernetes still works on it, and goes on by itself once what holds it up is gone |
| Stalled | nothing but a change of yours helps; nothing is tried again until then |
| ModelLoaded | at least one pod has the model in memory |
| EnvRecognized | no variable in `env` is probably misspelt or without effect; its message may advise one more |

Helm's `--wait`, Flux and `kubectl wait --for=condition=Ready` go by these: an endpoint is done when Ready is True and
Reconciling is not, has failed when Stalled is True, and is in progress otherwise.
"""

STATES_HEAD = """
## While all is well

| reason | what it means |
|---|---|
"""

FAILURES_HEAD = """
## What Kubernetes or the operator finds

What is marked with * is Stalled.

| reason | when | what to do |
|---|---|---|
"""

ARGO_CD_HEAD = """
## Argo CD

Argo CD knows no kstatus. This makes it judge endpoints in the same way, in its ConfigMap `argocd-cm` under
`resource.customizations.health.forebay.dev_InferenceEndpoint`:

"""

TAIL = """
## What the server finds

A server that cannot start leaves reason, message and remedy behind, and the endpoint repeats them: a gated repository,
an unknown flag, a model that does not fit the GPU, an adapter that does not match, and more. The list is in
[lifecycle.md](lifecycle.md#startup-failures). Where the operator may list nodes, it adds to what does not fit which
nodes have GPUs that could hold the model, by the labels of GPU feature discovery.

## Where a start spends its time

`status.startup` tells how far the pod is that is furthest along, while none is ready: the step, and for a download
percent, bytes a second and seconds left. `status.lastStart` keeps how many seconds each step of the last start took:

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
"""The same rules as kstatus', in the form that Argo CD takes them."""


def build_page() -> str:
    """The page, in Markdown."""
    states = _rows((f"`{name}`", meaning) for name, meaning in STATES.items())
    failures = _rows(
        (f"`{reason.name}`{' *' if reason.stalled else ''}", reason.meaning, _as_sentence(reason.remedy))
        for reason in FAILURES
    )
    argo_cd = f"{ARGO_CD_HEAD}```lua\n{ARGO_CD}```\n"
    return HEAD + STATES_HEAD + states + FAILURES_HEAD + failures + TAIL + argo_cd


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def _as_sentence(remedy: str) -> str:
    """The remedy with the words that are filled in later in angle brackets."""
    words = remedy.replace("{", "<").replace("}", ">")
    return f"{words}." if words else ""


if __name__ == "__main__":
    print(build_page(), end="")
