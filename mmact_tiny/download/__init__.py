"""Downloads what has a name, the tutorial's dataset or weights of MMAction2's zoo, or any file."""

from .transfer import download, published_hash
from .zoo import fetch, fetch_zoo, find_published, is_there, mirrored, table

__all__ = ["download", "fetch", "fetch_zoo", "find_published", "is_there", "mirrored"]
__all__ += ["published_hash", "table"]
