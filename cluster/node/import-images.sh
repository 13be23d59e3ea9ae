#!/bin/bash
# Put image archives into containerd's store under the names that are in them: import-images.sh FOLDER
set -euo pipefail

cat > /tmp/containerd.toml <<'TOML'
version = 3
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri",
]
TOML
containerd --config /tmp/containerd.toml &
containerd=$!
until ctr version >/dev/null 2>&1; do
  kill -0 $containerd
  sleep 0.1
done
for archive in "$1"/*.tar; do
  ctr --namespace k8s.io images import --no-unpack --all-platforms --digests --label io.cri-containerd.pinned=pinned "$archive"
done
kill $containerd
wait $containerd
