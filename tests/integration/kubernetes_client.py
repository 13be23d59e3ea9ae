"""kubernetes.aio's client with the access of a kubeconfig, for tests and benchmarks that talk to a real API server."""

from pathlib import Path

from kubernetes.aio import client, config


async def connect(kubeconfig: Path) -> client.ApiClient:
    """A client with the access of a kubeconfig; close it."""
    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return client.ApiClient(configuration)
