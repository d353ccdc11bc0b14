"""The first schema: every table of dispatch_common.tables, the views others read, storage settings of what churns."""

from alembic import op
from sqlmodel import SQLModel

from dispatch_common import tables

revision = "0001"
down_revision = None

_VIEWS = (
    """CREATE VIEW resources_current AS
       SELECT org, kind, name, generation, spec FROM resources WHERE spec IS NOT NULL""",
    """CREATE VIEW approvals_waiting AS
       SELECT org, id, run_id, ask, stage, digest, requested_by, requester_name, "grant", base, reasons, approvers,
              created_at, expires_at
       FROM approvals WHERE state = 'pending'""",
    """CREATE VIEW principal_roles AS
       SELECT org, name, roles FROM principals""",
    """CREATE VIEW ended_runs AS
       SELECT id, org, state FROM runs WHERE NOT live""",
    """CREATE VIEW live_runs AS
       SELECT id::text AS about, id, org, task_id, lane, state FROM runs WHERE live""",
)


def upgrade() -> None:
    connection = op.get_bind()
    SQLModel.metadata.create_all(connection)
    for view in _VIEWS:
        op.execute(view)
    for table in tables.CHURNING:
        op.execute(f"ALTER TABLE {table} SET ({tables.CHURN})")
    # What was written once is not rewritten, whoever asks.
    op.execute(
        """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION '% is append only', TG_TABLE_NAME; END $$"""
    )
    op.execute("CREATE TRIGGER append_only BEFORE UPDATE ON run_steps FOR EACH ROW EXECUTE FUNCTION refuse_change()")
