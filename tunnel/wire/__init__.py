"""Codecs of everything that a packet of this suite may be made of. Each module: `decode`, `encode`, one typed error.

Total: any octets give a value or one `stack.wire.WireError`. Nothing is re-exported; import the module you need.
"""
