"""Starts MLflow's server on PostgreSQL with its passwords read from files.

MLflow takes its database as one URI with the password in it, on the command line or in the environment, where
`docker inspect` and `ps` show it. Here passwords come from a folder of secrets, one file each:

    postgres_password       of the database
    mlflow_admin_password   of the user `admin`; with --auth basic
    mlflow_secret_key       signs the login forms, the same in all servers of a database; with --auth basic

    python mlflow_server.py --database mlflow@postgres:5432/mlflow --auth basic -- --host 0.0.0.0 --port 5000

What follows ``--`` goes to `mlflow server` as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import URL

# Of every user on what others logged: a lab reads each other's results and changes only its own.
PERMISSION = "READ"


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, metavar="USER@HOST:PORT/NAME", help="in PostgreSQL")
    parser.add_argument("--auth", choices=("none", "basic"), default="none", help="basic: users and passwords")
    parser.add_argument("--secrets", type=Path, default=Path("/run/secrets"), help="default: %(default)s")
    parser.add_argument("server", nargs="*", metavar="-- OPTION", help="of mlflow server")
    options = parser.parse_args(arguments)
    return options, options.server


def secret(folder: Path, name: str) -> str:
    try:
        value = (folder / name).read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"mlflow_server: the secret {name} cannot be read from {folder}: {error.strerror}")
    if not value:
        sys.exit(f"mlflow_server: the secret {name} in {folder} is empty")
    return value


def database_uri(database: str, password: str) -> str:
    """``password`` may hold any character."""
    parts = urlsplit(f"//{database}")
    name = parts.path.strip("/")
    if not (parts.username and parts.hostname and name):
        sys.exit(f"mlflow_server: --database needs USER@HOST:PORT/NAME, got {database!r}")
    uri = URL.create("postgresql+pg8000", parts.username, password, parts.hostname, parts.port, name)
    return uri.render_as_string(hide_password=False)


def basic_auth(folder: Path, database: str) -> dict[str, str]:
    """Users are kept in the tracking server's own database; its tables have other names."""
    file = Path(tempfile.mkdtemp()) / "basic_auth.ini"  # Readable for this user only.
    # The file's reader takes % for its own.
    uri = database.replace("%", "%%")
    file.write_text(
        f"[mlflow]\ndefault_permission = {PERMISSION}\ndatabase_uri = {uri}\nadmin_username = admin\n", encoding="utf-8"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret(folder, "mlflow_admin_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret(folder, "mlflow_secret_key"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options, server = parse(arguments)
    uri = database_uri(options.database, secret(options.secrets, "postgres_password"))
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    command = [sys.executable, "-m", "mlflow", "server", *server]
    if options.auth == "basic":
        environment |= basic_auth(options.secrets, uri)
        command += ["--app-name", "basic-auth"]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
