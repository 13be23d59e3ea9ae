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
    "The endpoint asks for what cannot work, and the CRD that is installed did not refuse it.",
    "Correct the fields named",
    stalled=True,
)
NOT_OWNED = Reason(
    "NotOwned",
    "An object that has the name of one of the endpoint's belongs to somebody else. It is never touched.",
    "Delete or rename it, or give the endpoint another name",
    stalled=True,
)
WAITING_FOR_DELETION = Reason(
    "WaitingForDeletion",
    "An endpoint of the same name was deleted, and its objects are still being removed.",
    "Wait; if it stays so, see what finalizers the object has",
)
DELETED = Reason("Deleted", "The endpoint is being deleted.", "")
NO_SERVER_IMAGE = Reason(
    "NoServerImage",
    "Neither the endpoint nor the operator names an image of the server.",
    "Set {value} of the chart, or spec.image",
    stalled=True,
)
IMAGE_VOLUME_UNSUPPORTED = Reason(
    "ImageVolumeUnsupported",
    "An oci:// model on a Kubernetes that does not mount images as volumes.",
    "Give a Hugging Face id in spec.model, or upgrade the cluster",
    stalled=True,
)
NO_GATEWAY = Reason(
    "NoGateway",
    "The endpoint is at zero and no gateway is ready, so requests fail and nothing starts a server.",
    "Install the gateway (gateway.enabled of the chart) or see why its pods are not ready, or scale to 1",
)
NO_PORT_LEFT = Reason(
    "NoPortLeft",
    "All ports of the gateways are given to other endpoints.",
    "Delete endpoints, or install Forebay a second time for some of the namespaces (watchNamespaces)",
)
REFUSED_BY_POLICY = Reason(
    "Refused",
    "The API server did not take an object of the endpoint: it is not valid.",
    "Change what it names in the endpoint",
    stalled=True,
)
FORBIDDEN = Reason(
    "Forbidden",
    "The API server did not let the operator make an object of the endpoint.",
    "Change the policy that refuses it, or wait if the namespace is being deleted",
)
QUOTA_EXCEEDED = Reason(
    "QuotaExceeded",
    "A ResourceQuota of the namespace has no room for another pod or object.",
    "Raise the quota, remove something, or ask for less in spec.gpu, spec.resources or spec.replicas",
)
ADMISSION_REFUSED = Reason(
    "AdmissionRefused",
    "An admission webhook or policy, Pod Security included, refuses the pods.",
    "Change what it names in the endpoint, or the policy of the namespace",
)
WEBHOOK_FAILED = Reason(
    "WebhookFailed",
    "An admission webhook of the cluster, which is asked about every pod, does not answer.",
    "Mend the service that it names, or its configuration; pods are made by themselves then",
)
SERVICE_ACCOUNT_MISSING = Reason(
    "ServiceAccountMissing", "The service account that the pods are to run as does not exist.", "Create it"
)
PODS_REFUSED = Reason(
    "PodsRefused",
    "Kubernetes makes no pods, for another reason than those above.",
    "Change what it names",
)
UNSCHEDULABLE = Reason(
    "Unschedulable",
    "No node takes the pod; the message has the scheduler's words. It goes on by itself once a node does.",
    "Free or add such a node, or ask for less in spec.gpu and spec.resources",
)
NO_SUCH_GPU = Reason(
    "NoSuchGPU",
    "No node of the cluster has the GPUs that one replica asks for, even if all were free. Told only where the "
    "operator may list nodes, else it is Unschedulable.",
    "Add such a node, or ask in spec.gpu for what a node has",
)
GPUS_TAKEN = Reason(
    "GPUsTaken",
    "Nodes have the GPUs that one replica asks for, and others use them. Told only where the operator may list nodes, "
    "else it is Unschedulable.",
    "Free GPUs or add a node; the pod starts by itself then",
)
PVC_MISSING = Reason("PVCMissing", "A PersistentVolumeClaim that the pod mounts does not exist.", "Create it")
PVC_UNBOUND = Reason(
    "PVCUnbound",
    "A PersistentVolumeClaim that the pod mounts has no volume.",
    "See kubectl describe pvc: it needs a storage class that exists and makes volumes, or a volume that matches",
)
VOLUME_ELSEWHERE = Reason(
    "VolumeElsewhere",
    "The volume of a claim can be mounted only on nodes that do not take the pod, as those of another zone.",
    "Free or add a node there, or use another claim",
)
IMAGE_NOT_FOUND = Reason(
    "ImageNotFound",
    "The registry (or, with the pull policy Never, the node) does not have the image.",
    "Correct the image in spec.image or spec.model, or push it; the node tries again by itself",
)
IMAGE_PULL_DENIED = Reason(
    "ImagePullDenied",
    "The registry does not let the node have the image. Many answer so for an image that does not exist.",
    "Correct its name, or give a Secret with access to the registry in spec.pod.imagePullSecrets",
)
REGISTRY_UNREACHABLE = Reason(
    "RegistryUnreachable",
    "The node gets no answer from the registry, or is sent away for asking too often.",
    "See that the nodes reach the registry; the node tries again by itself",
)
INVALID_IMAGE_NAME = Reason(
    "InvalidImageName", "What stands for an image is not a reference to one.", "Correct spec.image", stalled=True
)
IMAGE_PULL_FAILED = Reason(
    "ImagePullFailed",
    "The image cannot be pulled, for another reason than those above.",
    "Check the image in spec.image or spec.model, and that the nodes may pull it",
)
SECRET_MISSING = Reason(
    "SecretMissing",
    "A Secret that spec.auth, spec.env, spec.envFrom or spec.pod.volumes names does not exist.",
    "Create it in the endpoint's namespace; the endpoint goes on by itself",
)
CONFIG_MAP_MISSING = Reason(
    "ConfigMapMissing",
    "A ConfigMap that spec.env, spec.envFrom or spec.pod.volumes names does not exist.",
    "Create it in the endpoint's namespace; the endpoint goes on by itself",
)
ENTRY_MISSING = Reason(
    "EntryMissing",
    "A Secret or ConfigMap has no such key as spec.env or spec.pod.volumes names.",
    "Add the key to it, or correct the name in the endpoint",
)
REFERENCE_MISSING = Reason(
    "ReferenceMissing",
    "The container cannot be configured, for another reason than those above.",
    "Create or correct what spec.env or spec.envFrom refers to",
)
CONTAINER_REFUSED = Reason(
    "ContainerRefused",
    "The node cannot make the container, for a reason that its runtime gives.",
    "Check spec.image, and the node's container runtime",
)
VOLUME_IN_USE = Reason(
    "VolumeInUse",
    "The volume of a claim is attached to another node, and can be attached to one only.",
    "Wait until the pod there has gone. To change an endpoint with such a claim, set spec.rollout.strategy: Replace; "
    "for more replicas use a claim with access mode ReadWriteMany",
)
VOLUME_FAILED = Reason(
    "VolumeFailed",
    "The node cannot attach or mount a volume of the pod, for another reason than those above.",
    "See what it names; the node tries again by itself",
)
SANDBOX_FAILED = Reason(
    "SandboxFailed",
    "The node cannot make the pod's network or its sandbox, as when it does not have the runtime of "
    "spec.pod.runtimeClassName.",
    "Correct spec.pod.runtimeClassName if it names that, else look at the node; it tries again by itself",
)
EVICTED = Reason(
    "Evicted",
    "The node ran short of memory, disk or process ids and removed the pod.",
    "Give the pod what it uses in spec.resources.requests (memory, ephemeral-storage), or a larger node",
)
NODE_REFUSED = Reason(
    "NodeRefused",
    "The scheduler chose a node and the node did not take the pod: its device plugin or its own count of what is free "
    "said no.",
    "Nothing, if a new pod follows; else look at the node and its device plugin",
)
ENDED_BY_NODE = Reason(
    "EndedByNode",
    "The node or the control plane ended the pod: a shutdown, a lost node, a preemption.",
    "Nothing, if a new pod follows; else look at the node",
)
OUT_OF_MEMORY = Reason(
    "OutOfMemory",
    "The kernel killed the server for its memory limit (of the host's memory, not the GPU's).",
    "Raise spec.resources.limits.memory",
)
STARTUP_TIMEOUT = Reason(
    "StartupTimeout",
    "The model did not answer in the time that a start may take, so the pod was started again. The message names the "
    "step that it hung in.",
    "If it only needs longer, raise spec.rollout.startupTimeout",
)
STUCK = Reason(
    "Stuck",
    "The pod has come no further for as long as a start may take, and nothing else explains it.",
    "See kubectl describe pod {pod}",
)
SERVER_FAILED = Reason(
    "ServerFailed",
    "The server ended, again and again, and left no diagnosis of its own. The message has its last words.",
    "See kubectl logs --previous {pod}",
)

FAILURES: tuple[Reason, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
"""The table, in the order in which the page shows it."""
