"""How the benchmark runs nginx: with few workers, and all of its files in one directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.processes import Program, UnavailableError, is_listening

MODULES = Path("/usr/lib/nginx/modules")

MAIN = """
{modules}
worker_processes {workers};
worker_rlimit_nofile 16000;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 15000; multi_accept on; }}
http {{
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  default_type text/plain;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  tcp_nodelay on;
  {http}
}}
"""


def start(
    directory: Path,
    *,
    http: str,
    port: int,
    cores: str,
    modules: tuple[str, ...] = (),
    workers: int = 1,
) -> Program:
    """Start nginx with this ``http`` block and return when ``port`` answers."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise UnavailableError("nginx is not installed")
    loaded = [MODULES / f"{name}.so" for name in modules]
    if absent := [module.name for module in loaded if not module.exists()]:
        raise UnavailableError(f"nginx has no {', '.join(absent)}")
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        MAIN.format(
            modules="\n".join(f"load_module {module};" for module in loaded),
            directory=directory,
            http=http,
            workers=workers,
        )
    )
    command = [program, "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
    started = Program(command, cores=cores, output=directory / "output.log")
    started.wait_until(lambda: is_listening(port))
    return started
