"""What the gateway knows of the cluster: endpoints, their pods and API keys."""
