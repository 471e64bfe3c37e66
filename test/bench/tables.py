"""The databases of the benchmark: made, emptied before each cell, and checked after it.

A variant is a schema with the same lead table: `plain` does nothing more, `peer` is the hand-written
PL/pgSQL trigger, `routed` is leadroute.
"""

from server import MeasureError

COLUMNS = "source, name, email, phone, region, pincode, product, deal_value, score, attrs"
# the lead of insert.pgbench
LEAD = """'Website', 'Anita Sharma', 'anita@example.com', '+91 98200 41317', 'Maharashtra',
    (400000 + {rule})::text, 'Apartment', {value}, 42, '{{"campaign": "spring"}}'::jsonb"""

EMPTY = {
    "plain": "TRUNCATE plain.leads RESTART IDENTITY",
    "peer": """TRUNCATE peer.leads, peer.assignments, peer.rep_day RESTART IDENTITY;
        UPDATE peer.pools SET next = 0;
        VACUUM FULL peer.pools""",
    # The record first: without the leads its open episodes would be ended one by one. Emptying it
    # resets the counters, and with them the caps.
    "routed": """TRUNCATE leadroute.assignment, leadroute.alert, leadroute.checkpoint;
        TRUNCATE routed.leads RESTART IDENTITY""",
    "record": "TRUNCATE record.assignment",
}

# For each variant a query that is true when every lead was treated as it claims.
CHECKS = {
    "plain": "SELECT count(*) > 0 FROM plain.leads",
    "peer": """SELECT count(*) > 0 AND count(*) = count(owner_id)
        AND count(*) = (SELECT count(rule_id) FROM peer.assignments)
        AND count(*) = (SELECT sum(taken) FROM peer.rep_day) FROM peer.leads""",
    "routed": """SELECT count(*) > 0 AND count(*) = count(owner_id)
        AND count(*) = (SELECT count(*) FROM leadroute.assignment WHERE rep IS NOT NULL AND
            rule IS NOT NULL AND rep_cap IS NOT NULL AND length(explanation) > 0 AND method = 'push')
        AND NOT EXISTS (SELECT FROM leadroute.alert) FROM routed.leads""",
    "record": "SELECT count(*) > 0 FROM record.assignment",
}


class Tables:
    """One database with some variants, all with the same pools, reps and rules."""

    def __init__(self, server, database, variants, pools=10, reps=100, rules=100, capped=0):
        self.server = server
        self.database = database
        self.rules = rules
        self.script = "insert.pgbench"
        server.create_database(database)
        size = {"pools": pools, "reps": reps, "rules": rules, "capped": capped}
        for variant in variants:
            server.script(database, "leads.sql", variant=variant)
            if variant != "plain":
                server.script(database, f"{variant}.sql", **size)
        self.control = self.session()

    def session(self):
        return self.server.session(self.database)

    def empty(self, variant):
        self.control.run(EMPTY[variant])
        self.control.run("CHECKPOINT")

    def check(self, variant):
        if self.control.value(CHECKS[variant]) != "t":
            raise MeasureError(f"{variant} in {self.database} has not done its work: {CHECKS[variant]}")

    def verify(self):
        """leadroute's own opinion of what it did."""
        found = self.control.run("SELECT * FROM leadroute.verify()")[0]
        if any(value != "0" for value in found):
            raise MeasureError(f"{self.database}: leadroute.verify() says {found}")

    def insert_one(self, variant):
        return (f"INSERT INTO {variant}.leads ({COLUMNS}) SELECT "
                + LEAD.format(rule=1, value=5000))

    def write_leads(self, rows):
        """Writes a file of leads for COPY, each rule hit equally often, and returns its name."""
        path = f"{self.server.directory}/leads_{self.rules}_{rows}.copy"
        lead = LEAD.format(rule=f"1 + floor(random() * {self.rules})::integer",
                           value="1000 + floor(random() * 99000)::integer")
        self.control.run(f"SELECT setseed(0.5); COPY (SELECT {lead} FROM generate_series(1, {rows})) TO '{path}'")
        return path

    def write_record(self):
        """Writes the assignment rows of the last COPY to a file, and returns its name; makes the
        table to load it into: as leadroute's, without its triggers."""
        path = f"{self.server.directory}/record_{self.rules}.copy"
        self.control.run(f"COPY (SELECT * FROM leadroute.assignment WHERE lead_id <> '1') TO '{path}'")
        self.control.run("CREATE SCHEMA IF NOT EXISTS record")
        self.control.run("CREATE TABLE IF NOT EXISTS record.assignment (LIKE leadroute.assignment INCLUDING ALL)")
        return path

    def copy_statement(self, variant, path):
        target = "record.assignment" if variant == "record" else f"{variant}.leads ({COLUMNS})"
        return f"COPY {target} FROM '{path}'"

    def copy(self, variant, path):
        """Times a COPY by a session that has inserted before; returns seconds and bytes of WAL."""
        session = self.session()
        if variant != "record":
            session.run(self.insert_one(variant))
        start = session.value("SELECT pg_current_wal_insert_lsn()")
        seconds = session.timed(self.copy_statement(variant, path))
        wal = session.number(f"SELECT pg_current_wal_insert_lsn() - '{start}'::pg_lsn")
        session.close()
        self.check(variant)
        return seconds, wal
