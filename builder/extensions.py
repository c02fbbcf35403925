"""Makes C of the path, one file for each module, and compiles the files on every processor."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools.command.build_ext import build_ext

from builder.compiled_path import COMPILED
from builder.toolchain import takes_flag

# The path calls itself directly, not through a table that lets others take a function's place, and
# is seen by nobody else, so that the linker may inline whatever it likes. What a compiler warns of
# in generated code is nothing that anyone could mend, and mypyc would have it end the build.
_FLAGS = (
    []
    if sys.platform == "win32"
    else ["-fno-semantic-interposition", "-fno-plt", "-fvisibility=hidden", "-w", "-g0"]
)


def make_c() -> list[Any]:
    """Return the extension modules, of C that stands under ``build/``; a type error ends it."""
    from mypyc.build import mypycify

    files = [f"sidecar/{name}.py" for name in COMPILED]
    modules = mypycify(
        files, opt_level="3", debug_level="0", group_name="sidecar_path", multi_file=True
    )
    for module in modules:  # they share one list
        module.extra_compile_args = [*module.extra_compile_args, *_FLAGS]
    _optimize_as_one(modules[0])
    return list(modules)


def _optimize_as_one(path: Any) -> None:
    """Have the linker inline calls from one file into another, as if all were one file."""
    flag = f"-flto={_count_processors()}"
    if takes_flag(flag):
        path.extra_compile_args.append("-flto")
        path.extra_link_args = [flag, "-O3", *_FLAGS]


class ParallelBuild(build_ext):
    """``build_ext`` that keeps all processors busy, with one large module and many tiny ones."""

    def finalize_options(self) -> None:
        """Build as many modules at once as there are processors, if nobody said how many."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = _count_processors()

    def build_extensions(self) -> None:
        """Compile each module's files side by side, too; setuptools takes them in turn."""
        compile_in_turn = self.compiler.compile
        with ThreadPoolExecutor(_count_processors()) as pool:

            def compile_side_by_side(sources: list[str], *args: Any, **named: Any) -> list[str]:
                tasks = [pool.submit(compile_in_turn, [file], *args, **named) for file in sources]
                return [made for task in tasks for made in task.result()]

            self.compiler.compile = compile_side_by_side
            super().build_extensions()


def _count_processors() -> int:
    """Return how many processors this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
