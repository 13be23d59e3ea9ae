"""Programs that tests and benches run on this machine, outside the cluster. Each is found here, unpacked or built."""
