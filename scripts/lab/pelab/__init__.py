"""The network-namespace lab in which pe-dp is proved against FRR and the kernel's own VXLAN."""
