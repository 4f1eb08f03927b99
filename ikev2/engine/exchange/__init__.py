"""The exchanges of IKEv2, each in a module: what we ask and make of the answer, and what we answer."""
