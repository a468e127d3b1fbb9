"""The examples import their neighbours as a program in their directory does."""

from __future__ import annotations

import sys
from pathlib import Path

CASCADE = Path(__file__).resolve().parents[2] / "examples" / "cascade"
sys.path.append(str(CASCADE))
