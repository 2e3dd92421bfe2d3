"""A PostgreSQL that asks the relay for a password, and the file with the URL that the relay reads."""

from pathlib import Path

from tests.support.postgres import Server, connected
from tests.support.process import Station


class Credentials:
    """The relay's role, whose password the server asks for, and the file with its URL."""

    def __init__(self, server: Server, file: Path) -> None:
        self._server, self.file = server, file

    async def ask_for_passwords(self) -> None:
        (self._server.data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        await self.execute(
            "SELECT pg_reload_conf()", "CREATE ROLE relay LOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO relay",
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO relay",
        )  # fmt: skip

    async def execute(self, *statements: str) -> None:
        async with connected(self._server.url) as connection:
            for statement in statements:
                await connection.execute(statement)

    def write(self, password: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"postgresql://relay:{password}@127.0.0.1:{self._server.port}/postgres\n")
        new.rename(self.file)

    async def set_password(self, password: str) -> None:
        await self.execute(f"ALTER ROLE relay PASSWORD '{password}'")

    async def end_sessions(self) -> None:
        """Those of the relay: it has to log in again."""
        await self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'")


async def asked_for_passwords(server: Server, station: Station) -> Credentials:
    """The station's relays log in with a password from now on; there is none yet."""
    one = Credentials(server, station.folder / "url")
    await one.ask_for_passwords()
    del station.environment["RELAY_OUTBOX__URL"]
    station.environment["RELAY_OUTBOX__URL_FILE"] = str(one.file)
    return one
