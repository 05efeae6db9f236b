"""The edge of fincon: everything that touches the network, the disk, the clock or Prefect."""
