"""The workbench: starts every component, watches them, runs the demo, and leaves nothing behind."""
