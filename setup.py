"""Has setuptools compile the path where the backend asks for it; everything else is in setup.cfg.

``SIDECAR_COMPILE=1`` asks. The backend sets it (builder/backend.py); by hand, it does for
``setup.py build_ext --inplace``, which `make compiled` runs.
"""

import os
import sys

from setuptools import setup

from builder.extensions import ParallelBuild, make_c

is_asked_for = os.environ.get("SIDECAR_COMPILE") == "1"
is_building = not {"bdist_wheel", "build_ext", "editable_wheel"}.isdisjoint(sys.argv)
setup(
    ext_modules=make_c() if is_asked_for and is_building else [],
    cmdclass={"build_ext": ParallelBuild},
)
