"""The hub: its configuration, roles and services, and the workbench that starts everything."""
