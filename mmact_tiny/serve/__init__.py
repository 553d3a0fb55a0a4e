"""A page that recognizes the action in videos which people drop, choose or record."""

from ..errors import UserError

try:
    import fastapi  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise UserError(f"{error.name} is not installed: pip install 'mmact-tiny[web]'") from None
