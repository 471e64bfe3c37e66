"""Claims: how many leads a second 1, 8 and 32 sessions take out of a long queue, one by one, by leadroute's
claim_next() and by what else one would use.

  skip      SELECT … ORDER BY priority, score DESC FOR UPDATE SKIP LOCKED LIMIT 1, and an UPDATE of it
  record    skip that keeps a record, too: who has had the lead when, and since when it had waited, in a
            table with three indexes; no caps, rules or events
  known     UPDATE of a lead whose key is known: what no claim can beat
  graphile  the statement by which graphile-worker claims a job; npm installs it beside the server
  routed    leadroute.claim_next(), each session for a rep of its own
  app       the same by a role with no more than the level `app`

Before each cell the queue is filled up again and vacuumed. That leadroute keeps a record of who had the
lead when, and holds caps, counts against it: the others but record write one row.

How much longer a claim takes with a long queue is measured by one session that waits for no network, of
skip, too: with pages that are in the log already, as they are some time after a checkpoint, committing
durably and not; and right after a checkpoint, when who finds his leads on few pages writes fewer of them.
"""

import math
import os
import re
import subprocess
import time

from server import HERE, MeasureError

CLIENTS = (1, 8, 32)
REP = "\\set rep 1 + :client_id\n"
SCRIPTS = {
    "skip": REP + """WITH c AS MATERIALIZED (SELECT id FROM skip.leads WHERE owner_id IS NULL
        ORDER BY priority, score DESC FOR UPDATE SKIP LOCKED LIMIT 1)
        UPDATE skip.leads l SET owner_id = :rep FROM c WHERE l.id = c.id RETURNING l.id;""",
    # the record's row of the time that the lead waited ends, and another begins
    "record": REP + """WITH c AS MATERIALIZED (SELECT id FROM record.leads WHERE owner_id IS NULL
        ORDER BY priority, score DESC FOR UPDATE SKIP LOCKED LIMIT 1),
        o AS (UPDATE record.leads l SET owner_id = :rep FROM c WHERE l.id = c.id),
        e AS (UPDATE record.assignments a SET ended_at = now() FROM c WHERE a.lead_id = c.id AND a.ended_at IS NULL
            RETURNING a.lead_id)
        INSERT INTO record.assignments (lead_id, rep_id, assigned_at) SELECT lead_id, :rep, now() FROM e RETURNING lead_id;""",
    # any of the latest; few are met twice
    "known": REP + """\\set id random(:newest - :leads + 1, :newest)
        UPDATE known.leads SET owner_id = :rep WHERE id = :id RETURNING id;""",
    "routed": REP + "SELECT lead_id FROM leadroute.claim_next(:rep, 'pull');",
}
SCRIPTS["app"] = SCRIPTS["routed"]
LOOP = "DO $$DECLARE lead bigint; BEGIN FOR i IN 1 .. {} LOOP {}; COMMIT; END LOOP; END$$"
CLAIM = {
    "skip": """WITH c AS MATERIALIZED (SELECT id FROM skip.leads WHERE owner_id IS NULL
        ORDER BY priority, score DESC FOR UPDATE SKIP LOCKED LIMIT 1)
        UPDATE skip.leads l SET owner_id = 1 FROM c WHERE l.id = c.id RETURNING l.id INTO lead""",
    "routed": "SELECT lead_id INTO lead FROM leadroute.claim_next(1, 'pull')",
}
WARM_UP, CLAIMS = 100, 250

# How many leads (jobs) wait.
WAITING = {
    "skip": "SELECT count(*) FROM skip.leads WHERE owner_id IS NULL",
    "record": "SELECT count(*) FROM record.assignments WHERE rep_id IS NULL AND ended_at IS NULL",
    "known": "SELECT count(*) FROM known.leads WHERE owner_id IS NULL",
    "graphile": "SELECT count(*) FROM graphile_worker._private_jobs WHERE is_available",
    "routed": """SELECT count(*) FROM leadroute.assignment
        WHERE rep IS NULL AND ended_at IS NULL AND method <> 'manual' AND pool IS NOT NULL""",
}
FILLED = {
    "graphile": """INSERT INTO graphile_worker._private_jobs (task_id, priority, run_at)
        SELECT 1, 1 + floor(random() * 5), now() - random() * interval '1 day' FROM generate_series(1, {})""",
}
VACUUMED = {
    "skip": "skip.leads", "record": "record.leads, record.assignments", "known": "known.leads", "graphile": "graphile_worker._private_jobs",
    "routed": "routed.leads, leadroute.assignment",
}


class Claims:
    """The database, and what waits in it."""

    def __init__(self, bench, database, leads):
        self.server, self.options = bench.server, bench.options
        self.database, self.leads = database, leads
        self.server.create_database(database)
        for variant in ("skip", "record", "known", "routed"):
            self.server.script(database, "leads.sql", variant=variant)
        self.server.script(database, "claims.sql", leads=leads)
        self.control = self.server.session(database)
        self.scripts = dict(SCRIPTS)

    def add_graphile(self):
        """Says why, when it cannot be had."""
        directory = f"{self.server.directory}/npm"
        environment = dict(self.server.env, PGDATABASE=self.database)
        for command in (["npm", "install", "--no-audit", "--no-fund", "--prefix", directory, "graphile-worker@0.17.3"],
                        ["node", os.path.join(HERE, "graphile.js"), directory]):
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                      env=environment)
            except OSError as error:
                return str(error)
            if done.returncode != 0:
                return done.stderr.strip() or done.stdout.strip()
        claim = done.stdout.strip().rstrip(";")
        self.scripts["graphile"] = claim.replace("$1", "'bench'").replace("$2", "'{1}'") + ";"
        self.control.run("INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('claim')")
        self.fill("graphile")
        self.control.run("VACUUM (ANALYZE) graphile_worker._private_jobs")
        return None

    def fill(self, variant):
        missing = self.leads - int(self.control.value(WAITING[variant]))
        self.control.run(FILLED[variant].format(missing) if variant in FILLED
                         else f"CALL add_leads('{variant}', {missing})")

    def prepare(self, variant):
        self.fill(variant)
        self.control.run(f"VACUUM {VACUUMED[variant]}")

    def claims(self, variant, clients):
        """Claims per second, after a time to warm up."""
        waiting = "routed" if variant == "app" else variant
        self.prepare(waiting)
        path = f"{self.server.directory}/{variant}.pgbench"
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.scripts[variant])
        before = int(self.control.value(WAITING[waiting]))
        newest = self.control.value("SELECT max(id) FROM known.leads")
        seconds = 1 + math.ceil(self.options.seconds)
        command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, os.cpu_count())),
                   "-T", str(seconds), "-P", "1", "-D", f"newest={newest}", "-D", f"leads={self.leads}",
                   "-f", path, *(["-U", "bench_app"] if variant == "app" else []), self.database]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.server.env)
        output = done.stdout + done.stderr
        if done.returncode != 0 or "number of failed transactions: 0 " not in output:
            raise MeasureError(f"{' '.join(command)}\n{output}")
        claimed = int(re.search(r"actually processed: (\d+)", output).group(1))
        left = int(self.control.value(WAITING[waiting]))
        if left == 0 or (before - left != claimed and variant != "known"):
            raise MeasureError(f"{variant}: {claimed} claims have left {left} of {before}")
        rates = [float(rate) for rate in re.findall(r"progress: .*?, ([0-9.]+) tps", output)][1:]
        return sum(rates) / len(rates)

    def full_pages(self, setting):
        """Whether the first change of a page after a checkpoint writes all of it."""
        self.control.run(f"ALTER SYSTEM SET full_page_writes = {setting}")
        self.control.run("SELECT pg_reload_conf()")
        while self.control.value("SHOW full_page_writes") != setting:
            time.sleep(0.01)
        time.sleep(0.2)  # the checkpointer makes it known

    def alone(self, variant):
        """Microseconds of one claim, without a network: us is without a disk to wait for, too."""
        self.prepare(variant)
        session = self.server.session(self.database)
        figures = {}
        self.full_pages("off")
        session.run(LOOP.format(WARM_UP, CLAIM[variant]))
        for name, commit in (("us", "off"), ("durable", "on"), ("after", "off")):
            if name == "after":
                self.full_pages("on")
                self.control.run("CHECKPOINT")
            session.run(f"SET synchronous_commit = {commit}")
            figures[name] = 1e6 * session.timed(LOOP.format(CLAIMS, CLAIM[variant])) / CLAIMS
        session.close()
        return figures

    def verify(self):
        found = self.control.run("SELECT * FROM leadroute.verify()")[0]
        if any(value != "0" for value in found):
            raise MeasureError(f"{self.database}: leadroute.verify() says {found}")


def turned(cells, number):
    start = number % len(cells)
    return cells[start:] + cells[:start]


def claim(bench):
    """Claims out of a million leads that wait, and of a thousand."""
    many = Claims(bench, "claims_many", max(bench.options.rows, 100000))
    few = Claims(bench, "claims_few", 1000)
    variants = ["skip", "record", "known", "routed"]
    problem = many.add_graphile()
    if problem is None:
        variants.append("graphile")
    else:
        print(f"claim: graphile-worker is left out: {problem}", flush=True)
    for number in bench.rounds("claim"):
        for clients in CLIENTS:
            for variant in turned(variants + (["app"] if clients == 8 else []), number):
                bench.results.add("claim", number, str(clients), variant, tps=many.claims(variant, clients))
        for cell, claims in turned([("few", few), ("many", many)], number):
            for variant in turned(["skip", "routed"], number):
                bench.results.add("claim", number, cell, variant, **claims.alone(variant))
    many.verify()
    few.verify()
