"""Checks the environment: what is installed, what works, what is wrong and the fix."""
