"""Are these the same rows?"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd


def fingerprint_rows(rows: pd.DataFrame) -> str:
    """Return sha256 over column names, types and the hash of each row, in order (hex)."""
    digest = hashlib.sha256()
    digest.update(repr([(str(name), str(kind)) for name, kind in rows.dtypes.items()]).encode())
    digest.update(row_hashes(rows).tobytes())
    return digest.hexdigest()


def column_digests(rows: pd.DataFrame) -> dict[str, str]:
    """Return 16 hex digits over each column's type and values in order, by name."""
    return {
        str(name): hashlib.sha256(
            str(values.dtype).encode()
            + pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes()
        ).hexdigest()[:16]
        for name, values in rows.items()
    }


def content_hashes(rows: pd.DataFrame) -> np.ndarray:
    """Return a 64-bit hash of each row that no other row can change, shape (rows,).

    Whole numbers, and true and false, become floats in the whole column once one of its cells is
    empty; here they are floats always.
    """
    exact = rows.select_dtypes(["integer", "bool"]).columns
    floats = rows.astype(dict.fromkeys(exact, "float64"))
    # One column alone is an id: looking for values that repeat takes longer than hashing them.
    return row_hashes(floats, repeating=rows.shape[1] > 1)


def row_hashes(rows: pd.DataFrame, *, repeating: bool = True) -> np.ndarray:
    """Return a 64-bit hash of each row's values, shape (rows,).

    The same whether words are `repeating`, so that each is hashed once, or not.
    """
    return pd.util.hash_pandas_object(rows, index=False, categorize=repeating).to_numpy()
