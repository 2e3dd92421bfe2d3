"""The full names of PostgreSQL's own functions and tables in the relay's statements.

A function without its schema could be another one: PostgreSQL prefers one of any schema of the `search_path`
whose arguments fit better, and whoever may create in one of them would have it run with the relay's rights.
Statements are written with plain names; they get the full ones on their way to the server. `unnest` of
several arrays is syntax, which is PostgreSQL's own in its plain form only.
"""

import re

_FUNCTIONS = (
    "aclexplode btrim clock_timestamp count current_database current_schema current_schemas "
    "current_setting format gen_random_uuid json_typeof left length make_interval max min now "
    "num_nulls octet_length pg_advisory_xact_lock pg_backend_pid pg_control_system "
    "pg_current_wal_insert_lsn pg_get_userbyid pg_notification_queue_usage pg_notify "
    "pg_terminate_backend pg_total_relation_size pg_walfile_name quote_ident replace row_number "
    "set_config setval sha256 statement_timestamp strpos sum to_regclass to_regnamespace unnest upper "
    "width_bucket "
)
_TABLES = "pg_class pg_constraint pg_database pg_namespace pg_roles"
_OF_SEVERAL = r"(?!unnest\((?:[^()\[\]]|\[\])*,)"
_NAME = re.compile(
    rf"--[^\n]*|(?<![\w.]){_OF_SEVERAL}((?:{'|'.join(_FUNCTIONS.split())})(?=\()|(?:{'|'.join(_TABLES.split())})\b)"
)


def qualified(statement: str) -> str:
    """The statement with the full names; comments stay as they are."""
    return _NAME.sub(lambda match: f"pg_catalog.{match[0]}" if match[1] else match[0], statement)
