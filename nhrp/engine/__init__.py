"""The NHRP engine: sans-IO, repeatable. `Speaker` is all that a service needs."""
