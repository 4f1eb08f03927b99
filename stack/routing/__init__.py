"""Routing: interface table, RIB per VRF, next-hop resolution, FIB. The one place that resolves."""
