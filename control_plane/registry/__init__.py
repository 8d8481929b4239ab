"""Which control plane of a cluster leads, where there are several: the holder of a lock in Consul."""
