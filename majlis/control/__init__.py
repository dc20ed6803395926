"""The control plane: who is calling, what is decided, and the services that answer."""
