"""Finds videos and reads them, in processes that may crash, hang or leak.

`files` knows videos by their names, `frames` decodes them, `isolated` guards the process that does
and reads the next ones while a model works.
"""
