"""Packets through `pe-dp replay`, compared field by field with what the contract says."""
