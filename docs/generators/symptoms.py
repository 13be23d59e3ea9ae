"""The part "By symptom" of docs/troubleshooting.md: from what a user sees to the reason or command that explains it.

docs/generators/troubleshooting.py puts it into the page. Its reasons are those of the operator's tables.
"""

SYMPTOMS = """\
## By symptom

In the commands, `NAME` is the endpoint, and Forebay runs in the namespace `forebay-system` as the release
`forebay`.

### `kubectl apply` is refused

- The error quotes a rule: [reference.md](reference.md) lists the rules of each field.
- `unknown field "spec.x"`: the field is misspelled, or the installed CRD is older than the manifest. `kubectl
  explain iep.spec` shows the fields of the installed CRD.
- `no matches for kind "InferenceEndpoint"`: the CRD is not installed. Run `kubectl apply -f crds/`, or set
  `crds.install=true` in the chart.
- `is forbidden`: you need the ClusterRole `edit` or `admin` in the namespace. The chart adds
  rights on endpoints to both.
- `Apply failed with 1 conflict: … .spec.replicas`: something else has scaled the endpoint. See
  [scaling.md](scaling.md).

### STATUS stays `Pending`

No operator has looked at the endpoint. Check that the operator runs, and that the chart's `watchNamespaces` is
empty or has the endpoint's namespace:

```
kubectl get pods -n forebay-system
kubectl logs -n forebay-system deployment/forebay
```

The operator exits if the CRD is not installed, and its log says so.

### Stuck at `Scheduling`

Read the message in `kubectl describe iep NAME`:

- "a scheduling gate holds the pod": a queue for GPUs, such as Kueue, has not admitted the pod yet.
- "pods are being created": the Deployment has no pods yet. Run `kubectl describe deployment NAME`.
- "a node is being chosen": the scheduler has not decided. If it finds no node, STATUS becomes `Unschedulable`,
  `GPUsTaken`, `NoSuchGPU`, `PVCUnbound` or `VolumeElsewhere`.

### Stuck at `PreparingPod` or `PullingImage`

`kubectl describe pod -l forebay.dev/endpoint=NAME` shows what the node does. The first pull of an image of vLLM onto
a node can take minutes. If the node fails, STATUS becomes a reason such as `VolumeInUse`, `VolumeFailed`,
`SandboxFailed`, `ImagePullDenied` or `RegistryUnreachable`.

### `Starting` for minutes

The server runs, but the operator has no startup report from the pod's port 8001. Usual causes:

- A NetworkPolicy or a service mesh blocks the operator at port 8001 of the pods.
- With `spec.overlay: None`, the image does not have Forebay's server ([Server images](server-images.md)).

`kubectl logs deployment/NAME` shows whether the server starts. After `spec.rollout.startupTimeout`, STATUS becomes
`StartupTimeout` or `Stuck`.

### The pod restarts again and again (CrashLoopBackOff)

STATUS has the reason that the server reported, such as `OutOfMemoryWeights` or `GatedRepository`. The message says what
to do, and [lifecycle.md](lifecycle.md) lists these reasons. If the server reported no reason, STATUS is `ServerFailed`
or `OutOfMemory`. `kubectl logs --previous POD` shows its last output.

### The first request takes minutes

The endpoint was at zero, and the request started a replica. `status.lastStart` shows which step took the time:

```
kubectl get iep NAME -o jsonpath='{.status.lastStart}'
```

- `downloading`: set `spec.cache`. Without a cache, each new pod downloads the model again.
- `pulling`: pull the image of vLLM onto the nodes before you need it.
- Any step: `spec.scaling.minReplicas: 1` keeps a replica, and `spec.scaling.idle: Sleep` keeps one asleep with its
  GPUs.

### 401 with the right key

- Send the key as `Authorization: Bearer KEY`, decoded from base64:

  ```
  kubectl get secret NAME-api-key -o jsonpath='{.data.api-key}' | base64 -d
  ```

- With `spec.auth.secretName`, only the keys of that Secret are valid.
- Each value of the Secret is one key of at least 16 characters. Two keys in one value do not work. With a shorter key,
  a pod does not start, and the message names the key. A running pod ignores a shorter key.
- The gateway notices a new or changed key at most a minute after the first request that uses the key. Until then it
  answers 401. The pods can take a minute or two.
- The key of another endpoint gets 401 from the pods, and 404 from the gateway.
- The event `KeyReplaced` in `kubectl describe iep NAME` means that the Secret was deleted and has a new key.
- The gateway knows the first 64 keys of an endpoint. The pods know all keys.

### 404 model not found

The `model` of the request is not a name that the endpoint serves. List the names:

```
kubectl get iep NAME -o jsonpath='{.status.models}'
```

A Hugging Face model is served by its ID, any other model by the endpoint's name. To change the name, set
`OPENAI_SERVED_MODEL_NAME_OVERRIDE` in `spec.env`. On the gateway's shared URL `/openai/v1`, the key must also
belong to the endpoint. The code `not_available_for_model` means that the model has no such API, for example chat
for an embedding model.

409 `ambiguous_model` on the shared URL means that the key belongs to several endpoints with this model. Use
`/v2/ID/openai/v1`, which names one endpoint.

### 404 endpoint not found

The gateway knows no endpoint with this ID, or the key belongs to another endpoint. The ID is the endpoint's name in
the namespace that `gateway.homeNamespace` of the chart names, and `NAMESPACE.NAME` in every other namespace.

### 503 from the gateway or a pod

The `code` in the answer names the cause:

| code | cause | what to do |
|---|---|---|
| `endpoint_starting` | No pod was ready within `hold_seconds` (600). | Try again. The message has the step. |
| `endpoint_failed` | The endpoint is Stalled. | Do what the message says. |
| `endpoint_off` | `suspend` is true, or `replicas` is 0 without `scaling`. | Change the spec. |
| `service_unavailable` | The pod or the gateway is shutting down, or is overloaded. | Try again after `Retry-After`. |

### 504 from my load balancer

The gateway holds a request up to 600 s while a replica starts. Many load balancers end a request after 60 s. Raise
the load balancer's timeout above `hold_seconds`, or set `hold_seconds` in `gateway.settings` below that timeout.
The client then gets 503 with `Retry-After` while the start continues. After 20 s, streamed requests get a comment every
5 s, which keeps the connection open. See [gateway.md](gateway.md).

### It never scales to zero

- `spec.scaling` is missing, or `minReplicas` is above 0.
- Requests still arrive. Each request that needs the engine restarts the `idleTimeout`. Lists of models, health
  checks and metrics do not.
- Jobs wait or run: `kubectl get iep -o wide` shows QUEUED and RUNNING.
- The replica never became ready. The operator keeps it until the start succeeds or you scale to 0.
- No gateway is ready, or one does not answer the operator. Run `kubectl get pods -n forebay-system`.
- A pod does not answer the operator on port 8001. This pod counts as busy.

### A request does not wake the endpoint

- The code is `endpoint_off`: `suspend` is true, or `spec.scaling` is missing and `replicas` is 0.
- STATUS is `NoGateway`: the gateway is not installed, or its pods are not ready.
- `kubectl port-forward svc/NAME` finds no pod at zero. Forward to the gateway instead:

  ```
  kubectl port-forward -n forebay-system svc/forebay-gateway 8000:80
  ```

### A job stays IN_QUEUE

`GET /v2/ID/health` counts the endpoint's pods and jobs.

- `throttled` pods wait for GPUs or a quota, and `unhealthy` pods fail: STATUS has the reason.
- `initializing` pods are starting.
- There are no pods: the endpoint is off (see the section above). The job waits until you turn the endpoint on, or until
  the job's `ttl` ends.
- All pods are `running`: each pod runs at most `MAX_CONCURRENCY` jobs at the same time.

### Jobs, files or batches get 501, 404 or 503

- 501 `jobs_off`, or 404 for files and batches: the gateways have no job store. Set `valkey.create=true` or
  `valkey.existingSecret`, or run a single gateway.
- 503: Valkey does not answer. `kubectl get pvc,pods -n forebay-system` shows whether it runs. Without a default storage
  class, its claim stays Pending. See [runpod.md](runpod.md#valkey-in-the-chart).

### A webhook does not arrive

- The receiver must answer with 200 within 10 s. The gateway's log names each webhook that was not delivered.
- A receiver in the cluster needs `webhook_namespaces` or `webhook_networks` in `gateway.settings`. See
  [runpod.md](runpod.md).

### A route does not work

The message of the condition `RouteReady` quotes your Gateways. It also says if a Gateway of `spec.route.parentRefs`
does not exist, or if the Gateway API is not installed.

### An update does not finish

- `Degraded`: the new pod fails, and the old ones still answer. The message has the reason.
- The reason is `GPUsTaken`, `Unschedulable` or `QuotaExceeded`: there is no room for one more pod. Set
  `spec.rollout.strategy: Replace`.
- The reason is `VolumeInUse`: a ReadWriteOnce claim is attached to the old pod's node. Set `spec.rollout.strategy:
  Replace`, or use a ReadWriteMany claim.

### A variable in `env` has no effect

The message of the condition `EnvRecognized` names the variable, and a similar name if there is one. To list all
variables, run `python3 /run/forebay/overlay/server/forebay_start.py flags` in a pod of the endpoint.
"""
