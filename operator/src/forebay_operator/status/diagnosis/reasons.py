"""The table of reasons why an endpoint does not serve, each with meaning and remedy.

`make docs` writes docs/troubleshooting.md from it. The server's own diagnoses have their table in docs/lifecycle.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """A failure and its remedy.

    Attributes:
        reason: one CamelCase word, the reason of the Ready condition.
        message: the observation, in the words of the program that made it.
        remedy: what the user can do.
        stalled: whether only a user's change helps.
    """

    reason: str
    message: str
    remedy: str = ""
    stalled: bool = False

    @property
    def text(self) -> str:
        """Message and remedy as the sentences of a condition."""
        sentences = (sentence.strip().rstrip(".") for sentence in (self.message, self.remedy))
        return ". ".join(sentence for sentence in sentences if sentence)


@dataclass(frozen=True)
class Reason:
    """A row of the table.

    Attributes:
        name: the reason of the Ready condition.
        meaning: when it is used, for the page.
        remedy: what the user can do, for the condition. Placeholders in braces are filled in.
        stalled: whether only a user's change helps.
    """

    name: str
    meaning: str
    remedy: str
    stalled: bool = False

    def diagnose(self, message: str, **words: object) -> Diagnosis:
        """Build the diagnosis with a message. `words` are the values for the remedy's placeholders."""
        return Diagnosis(self.name, message, self.remedy.format(**words), self.stalled)


INVALID_SPEC = Reason(
    "InvalidSpec",
    "The spec asks for something that cannot work, and the installed CRD did not reject it.",
    "Correct the named fields",
    stalled=True,
)
NOT_OWNED = Reason(
    "NotOwned",
    "An object with a name that the endpoint needs belongs to something else. Forebay never changes it.",
    "Delete or rename that object, or rename the endpoint",
    stalled=True,
)
WAITING_FOR_DELETION = Reason(
    "WaitingForDeletion",
    "An endpoint of the same name was deleted, and its objects are still being removed.",
    "Wait. If this lasts, check the finalizers of the object",
)
DELETED = Reason("Deleted", "The endpoint is being deleted.", "")
NO_SERVER_IMAGE = Reason(
    "NoServerImage",
    "Neither the endpoint nor the chart sets an image with vLLM.",
    "Set {value} in the chart, or spec.image",
    stalled=True,
)
NO_OVERLAY_IMAGE = Reason(
    "NoOverlayImage",
    "The overlay is Copy or ImageVolume, and the chart names no image of Forebay's server.",
    "Set server.image in the chart. If the image of the endpoint has the server itself, set spec.overlay: None",
    stalled=True,
)
IMAGE_VOLUME_UNSUPPORTED = Reason(
    "ImageVolumeUnsupported",
    "The model or the overlay is an image volume, which this version of Kubernetes cannot mount.",
    "Use a Hugging Face ID in spec.model and the overlay Copy, or upgrade the cluster",
    stalled=True,
)
NO_GATEWAY = Reason(
    "NoGateway",
    "The endpoint is at zero and no gateway is ready. Requests fail, and nothing starts a server.",
    "Install the gateway (gateway.enabled of the chart), check why its pods are not ready, or scale to 1",
)
NO_PORT_LEFT = Reason(
    "NoPortLeft",
    "All ports of the gateways are assigned to other endpoints.",
    "Delete endpoints, or install Forebay a second time for some of the namespaces (watchNamespaces)",
)
REFUSED_BY_POLICY = Reason(
    "Refused",
    "The API server rejected an object of the endpoint as invalid.",
    "Change the named field of the endpoint",
    stalled=True,
)
FORBIDDEN = Reason(
    "Forbidden",
    "The API server did not allow the operator to create an object of the endpoint.",
    "Change the policy that rejects it, or wait if the namespace is being deleted",
)
QUOTA_EXCEEDED = Reason(
    "QuotaExceeded",
    "A ResourceQuota of the namespace has no room for another pod or object.",
    "Raise the quota, delete something, or lower spec.gpu, spec.resources or spec.replicas",
)
ADMISSION_REFUSED = Reason(
    "AdmissionRefused",
    "An admission webhook or policy, such as Pod Security, rejects the pods.",
    "Change the named field of the endpoint, or the policy of the namespace",
)
WEBHOOK_FAILED = Reason(
    "WebhookFailed",
    "An admission webhook that Kubernetes calls for every pod does not answer.",
    "Fix the named service or the webhook's configuration. The pods are then created automatically",
)
SERVICE_ACCOUNT_MISSING = Reason(
    "ServiceAccountMissing",
    "The service account of the pods does not exist.",
    "Create it",
)
PODS_REFUSED = Reason(
    "PodsRefused",
    "Kubernetes creates no pods, for a reason that this table does not have.",
    "Fix the named cause",
)
UNSCHEDULABLE = Reason(
    "Unschedulable",
    "No node accepts the pod. The message quotes the scheduler.",
    "Free or add a suitable node, or lower spec.gpu and spec.resources. The pod then starts automatically",
)
NO_SUCH_GPU = Reason(
    "NoSuchGPU",
    "No node of the cluster has the GPUs that one replica needs, even if all were free.",
    "Add such a node, or request GPUs in spec.gpu that a node has",
)
GPUS_TAKEN = Reason(
    "GPUsTaken",
    "Nodes have the GPUs that one replica needs, but other pods use them.",
    "Free GPUs or add a node. The pod then starts automatically",
)
PVC_MISSING = Reason(
    "PVCMissing",
    "A PersistentVolumeClaim that the pod mounts does not exist.",
    "Create it",
)
PVC_UNBOUND = Reason(
    "PVCUnbound",
    "A PersistentVolumeClaim that the pod mounts has no volume.",
    "See kubectl describe pvc. The claim needs a storage class that exists and creates volumes, or a matching volume",
)
VOLUME_ELSEWHERE = Reason(
    "VolumeElsewhere",
    "The volume of a claim can be mounted only on nodes that do not accept the pod, such as nodes of another zone.",
    "Free or add a node there, or use another claim",
)
IMAGE_NOT_FOUND = Reason(
    "ImageNotFound",
    "The registry does not have the image. With the pull policy Never, the node does not have it.",
    "Correct the image in spec.image or spec.model, or server.image of the chart, or push it. The node retries "
    "automatically",
)
IMAGE_PULL_DENIED = Reason(
    "ImagePullDenied",
    "The registry denies the node the image. Many registries also deny an image that does not exist.",
    "Correct the image name, or add a Secret with access to the registry to spec.pod.imagePullSecrets",
)
REGISTRY_UNREACHABLE = Reason(
    "RegistryUnreachable",
    "The registry does not answer the node, or rejects it for too many requests.",
    "Check that the nodes can reach the registry. The node retries automatically",
)
INVALID_IMAGE_NAME = Reason(
    "InvalidImageName",
    "The name of an image is not a valid image reference.",
    "Correct spec.image",
    stalled=True,
)
IMAGE_PULL_FAILED = Reason(
    "ImagePullFailed",
    "The image cannot be pulled, for a reason that this table does not have.",
    "Check the image in spec.image or spec.model, and that the nodes may pull it",
)
SECRET_MISSING = Reason(
    "SecretMissing",
    "A Secret of spec.auth, env, envFrom or pod.volumes, or of the chart's server.envFrom, is missing.",
    "Create it in the endpoint's namespace. The endpoint then continues automatically",
)
CONFIG_MAP_MISSING = Reason(
    "ConfigMapMissing",
    "A ConfigMap of spec.env, envFrom or pod.volumes, or of the chart's caBundle, does not exist.",
    "Create it in the endpoint's namespace. The endpoint then continues automatically",
)
ENTRY_MISSING = Reason(
    "EntryMissing",
    "A Secret or ConfigMap lacks a key that spec.env or spec.pod.volumes names.",
    "Add the key, or correct its name in the endpoint",
)
REFERENCE_MISSING = Reason(
    "ReferenceMissing",
    "The container cannot be configured, for a reason that this table does not have.",
    "Create or correct what spec.env or spec.envFrom refers to",
)
OVERLAY_FAILED = Reason(
    "OverlayFailed",
    "The init container could not copy Forebay's server into the pod. The message quotes its output.",
    "Check server.image of the chart, and the free disk space of the node. The node retries automatically",
)
CONTAINER_REFUSED = Reason(
    "ContainerRefused",
    "The node cannot create the container. The message quotes its container runtime.",
    "Check spec.image, and the node's container runtime",
)
VOLUME_IN_USE = Reason(
    "VolumeInUse",
    "The volume of a claim is attached to another node, and can be attached to one node only.",
    "Wait until the pod there has ended. To update an endpoint with such a claim, set spec.rollout.strategy: Replace. "
    "For more replicas, use a claim with access mode ReadWriteMany",
)
VOLUME_FAILED = Reason(
    "VolumeFailed",
    "The node cannot attach or mount a volume of the pod, for a reason that this table does not have.",
    "Fix the named cause. The node retries automatically",
)
SANDBOX_FAILED = Reason(
    "SandboxFailed",
    "The node cannot create the pod's network or sandbox, for example if it lacks the pod's RuntimeClass.",
    "Correct spec.pod.runtimeClassName if it is named here, otherwise check the node. The node retries automatically",
)
EVICTED = Reason(
    "Evicted",
    "The node ran out of memory, disk or process IDs and evicted the pod.",
    "Set what the pod uses in spec.resources.requests (memory, ephemeral-storage), or use a larger node",
)
NODE_REFUSED = Reason(
    "NodeRefused",
    "The scheduler chose a node, but its kubelet or device plugin rejected the pod.",
    "If no new pod follows, check the node and its device plugin",
)
ENDED_BY_NODE = Reason(
    "EndedByNode",
    "The node or the control plane ended the pod: a shutdown, a lost node or a preemption.",
    "If no new pod follows, check the node",
)
OUT_OF_MEMORY = Reason(
    "OutOfMemory",
    "The kernel killed the server at its memory limit. This is memory of the host, not of the GPU.",
    "Raise spec.resources.limits.memory",
)
STARTUP_TIMEOUT = Reason(
    "StartupTimeout",
    "The model did not answer in time, so the container was restarted. The message names the step that it had reached.",
    "If the start only needs more time, raise spec.rollout.startupTimeout",
)
STUCK = Reason(
    "Stuck",
    "The pod made no progress for as long as a start may take, for no other known reason.",
    "See kubectl describe pod {pod}",
)
SERVER_FAILED = Reason(
    "ServerFailed",
    "The server ended repeatedly and left no diagnosis. The message quotes its last output.",
    "See kubectl logs --previous {pod}",
)

FAILURES: tuple[Reason, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
"""The table, in the order in which the page shows it."""
