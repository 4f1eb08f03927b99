"""What is legal in NHRP's configuration, but wrong."""
