"""What the database itself holds to, in each one's own words: events are facts, and only progress is ever replaced.

Events that are older than the store keeps may go: those below the number that `meta` has as `events_from`.
"""

KEPT_FROM = "events_from"  # the key in `meta`: the number of the first event that is kept

AUDIT_VIEW = """
CREATE VIEW build_audit AS
SELECT b.task_id AS task, b.project_id AS project, b.plan AS spec, b.status AS status,
       COALESCE(b.reason, '') AS result, b.triggered_by AS who, e.type AS event, e.ts AS "when"
FROM builds b JOIN events e ON e.build = b.id
"""

SQLITE = (
    """CREATE TRIGGER events_stay BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    """CREATE TRIGGER events_remain BEFORE DELETE ON events
       WHEN OLD.type != 'workflow.progress'
        AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'events_from' AND OLD.id < CAST(value AS INTEGER))
       BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
)

POSTGRES = (
    """CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'events are append-only'; END $$""",
    "CREATE TRIGGER events_stay BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION events_stay()",
    """CREATE FUNCTION events_remain() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         IF NOT EXISTS (SELECT 1 FROM meta WHERE key = 'events_from' AND OLD.id < value::bigint) THEN
           RAISE EXCEPTION 'events are append-only';
         END IF;
         RETURN OLD;
       END $$""",
    """CREATE TRIGGER events_remain BEFORE DELETE ON events FOR EACH ROW
       WHEN (OLD.type <> 'workflow.progress') EXECUTE FUNCTION events_remain()""",
)


def guards(dialect: str) -> tuple[str, ...]:
    """The statements that make them, for a database of this dialect."""
    return SQLITE if dialect == "sqlite" else POSTGRES
