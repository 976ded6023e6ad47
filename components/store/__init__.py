"""One root for everything kedge keeps: a local folder or object storage. Writes are whole or not at all."""

from components.store.base import Store, open_store
from components.store.files import write_file

__all__ = ["Store", "open_store", "write_file"]
