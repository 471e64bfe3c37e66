"""What many rules cost: COPY and single-row inserts with 10, 1,000 and 100,000 rules, each hit equally
often, so that the same work follows a match whatever their number.

  equal     a rule asks for one pincode and a range of values; also for the PL/pgSQL trigger of peer.sql,
            which tries the rows of a table in order
  mixed     rules ask in turn for a pincode, a range of scores or a prefix of the phone's number
  unkeyed   1,000 rules before 10 others, with nothing by which to find them
  cold      the first lead of a new session, with 10 and with 100,000 rules
  edit      one of 100,000 rules is changed: that, and the next lead of another session
  load      100,000 rules by one INSERT
"""

import statistics

from tables import LEAD, Tables

SIZES = (10, 1000, 100000)
VALUES = "AND deal_value >= 1000 AND deal_value < 100000"
CONDITIONS = {
    "equal": f"format($$pincode = '%s' {VALUES}$$, 400000 + i)",
    "mixed": f"""CASE i % 3 WHEN 0 THEN format($$pincode = '%s' {VALUES}$$, 1000000 + i)
        WHEN 1 THEN format($$score >= %s AND score < %s {VALUES}$$, 10 * i, 10 * i + 10)
        ELSE format($$phone LIKE '%s%%' {VALUES}$$, 1000000 + i) END""",
}
LEADS = {
    "equal": LEAD.format(rule="i", value="value"),
    # as rules_mixed.pgbench
    "mixed": """'Website', 'Anita Sharma', 'anita@example.com', (10000004317 + CASE i % 3 WHEN 2 THEN 10000::bigint * i ELSE 0 END)::text,
        'Maharashtra', (1000000 + CASE i % 3 WHEN 0 THEN i ELSE 0 END)::text, 'Apartment', value,
        CASE i % 3 WHEN 1 THEN 10 * i ELSE 0 END, '{"campaign": "spring"}'::jsonb""",
}
SCRIPTS = {"equal": "insert.pgbench", "mixed": "rules_mixed.pgbench"}


class RuleTables(Tables):
    """A database with so many rules of one kind."""

    def __init__(self, bench, kind, rules, variants, database=None):
        super().__init__(bench.server, database or f"rules_{kind}_{rules}", variants, rules=0)
        self.rules, self.kind, self.script = rules, kind, SCRIPTS[kind]
        self.seconds = self.control.timed(f"""INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
            SELECT 'leads', i, 'rule ' || i, {CONDITIONS[kind]}, 'pool ' || (i - 1) % 10 + 1
            FROM generate_series(1, {rules}) i""")
        if "peer" in variants:
            self.control.run(f"INSERT INTO peer.rules SELECT i, i, 400000 + i, 1000, 100000, (i - 1) % 10 + 1 FROM generate_series(1, {rules}) i")
        self.control.run("VACUUM ANALYZE")
        # whoever routes first after many changes reads all rules, for everybody
        session = self.session()
        self.first = session.timed(self.insert_one("routed"))
        session.close()

    def insert_one(self, variant):
        return super().insert_one(variant) if self.kind == "equal" else self.insert(variant, "SELECT 1 AS i, 5000 AS value")

    def insert(self, variant, source):
        return (f"INSERT INTO {variant}.leads (source, name, email, phone, region, pincode, product, deal_value, score, attrs) "
                f"SELECT {LEADS[self.kind]} FROM ({source}) r")

    def write_leads(self, rows):
        path = f"{self.server.directory}/rules_{self.kind}_{self.rules}_{rows}.copy"
        self.control.run(f"""SELECT setseed(0.5);
            COPY (SELECT {LEADS[self.kind]} FROM (SELECT 1 + floor(random() * {self.rules})::integer AS i,
                1000 + floor(random() * 99000)::integer AS value FROM generate_series(1, {rows})) r) TO '{path}'""")
        return path

    def first_lead(self):
        """Milliseconds of the first lead of a session that has done something else."""
        times = []
        for _ in range(5):
            session = self.session()
            session.run("SELECT count(*) FROM plain.leads")
            times.append(1000 * session.timed(self.insert_one("routed")))
            session.close()
        return statistics.median(times)

    def edit(self):
        """Milliseconds of changing one rule, and of the next lead in another session."""
        writer, other = self.session(), self.session()
        update = "UPDATE leadroute.rule SET condition = condition || ' AND true' WHERE (tenant, id) = (0, {})"
        changes, leads = [], []
        for i in range(6):
            changes.append(1000 * writer.timed(update.format(1 + i * self.rules // 7)))
            leads.append(1000 * other.timed(self.insert_one("routed")))
        writer.close()
        other.close()
        # the first of each found nothing prepared
        return {"change_ms": statistics.median(changes[1:]), "lead_ms": statistics.median(leads[1:])}


def turned(cells, number):
    start = number % len(cells)
    return cells[start:] + cells[:start]


def prepare(bench):
    cells = []
    for kind in CONDITIONS:
        for size in SIZES:
            print(f"rules: {size} rules, {kind}", flush=True)
            tables = RuleTables(bench, kind, size, ["plain", "peer", "routed"] if kind == "equal" else ["plain", "routed"])
            cells.append((f"{kind} {size}", tables, "routed", tables.write_leads(bench.options.rows), bench.options.rows))
            if kind == "equal":
                few = min(bench.options.rows, 20000, max(200, 5000000 // size))
                cells.append((f"{kind} {size}", tables, "peer", tables.write_leads(few), few))
    few = bench.options.rows // 10
    tables = RuleTables(bench, "equal", 10, ["routed"], database="rules_unkeyed")
    tables.control.run("""INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
        SELECT 'leads', -i, 'unkeyed ' || i, format('length(pincode) = %s', 1000 + i), 'pool 1' FROM generate_series(1, 1000) i""")
    cells.append(("unkeyed", tables, "routed", tables.write_leads(few), few))
    return cells


def rules(bench):
    """10 to 100,000 rules."""
    cells = prepare(bench)
    tables_of = {cell: tables for cell, tables, variant, _, _ in cells if variant == "routed"}
    for number in bench.rounds("rules"):
        for cell, tables, variant, path, rows in turned(cells, number):
            tables.empty(variant)
            figures = {"tps": bench.tps(tables, variant, 32, "on", events="off")}
            tables.empty(variant)
            seconds, _ = tables.copy(variant, path)
            bench.results.add("rules", number, cell, variant, us_per_row=1e6 * seconds / rows, **figures)
        for size in (10, 100000):
            bench.results.add("rules", number, f"cold {size}", "routed", ms=tables_of[f"equal {size}"].first_lead())
        bench.results.add("rules", number, "edit", "routed", **tables_of["equal 100000"].edit())
        kind = ("equal", "mixed")[number % 2]
        loaded = tables_of[f"{kind} 100000"]
        bench.results.add("rules", number, "load", "routed", seconds=loaded.seconds, first=loaded.first)
    for tables in tables_of.values():
        tables.verify()
