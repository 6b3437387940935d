"""Imported first by every script of this folder: takes the folder off Python's search path.

Python puts a script's folder there, where `mrl.py` would be taken for the package of that name.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
