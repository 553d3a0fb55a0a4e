"""Named functions that set what must agree across a config; `registry` says how to write one."""
