"""Downloads what has a name, the tutorial's dataset or weights of MMAction2's zoo, or any file."""

from .transfer import download, published_hash
from .zoo import fetch, find_published, is_there, table

__all__ = ["download", "fetch", "find_published", "is_there", "published_hash", "table"]
