"""One root for everything kedge keeps: a local folder or object storage. Writes are whole or not at all."""

from kedge.store.base import Item, Store, open_store
from kedge.store.files import write_file

__all__ = ["Item", "Store", "open_store", "write_file"]
