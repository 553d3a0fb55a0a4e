"""Finds videos and reads them, in processes that may crash, hang or leak.

`files` knows videos, `source` takes those that are no path, `frames` decodes them, `times` says
when each frame is shown, `window` packs the frames of a stretch, `isolated` guards the process
that decodes, and reads the next videos while a model works.
"""
